// Order between kernels that may overlap (compute capability 9.0; schedules/early_launch.py); on
// other devices they do not, and this is nothing.

namespace early {

// Lets the kernel behind start, up to its wait, as soon as all blocks of this one have started.
__device__ __forceinline__ void release_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Until everything that the kernel in front has written is there; at once if this one was not
// launched early.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace early
