// Launches that overlap (compute capability 9.0; see schedules/early_launch.py).

// Lets the kernel behind this one start: it waits by itself for what it needs.
__device__ __forceinline__ void let_next_launch_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// Until everything that the kernel in front has written is there; at once if this one was not
// launched early.
__device__ __forceinline__ void wait_for_previous_launch() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
