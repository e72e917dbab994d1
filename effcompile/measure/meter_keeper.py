"""Sees to it that every device process knows its meter, and that a run calibrates once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from effcompile.errors import CompilerUnavailable, WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure.anchor_watch import Anchor
from effcompile.measure.device_process import DeviceProcess
from effcompile.measure.worker import MeterRequest
from search.meter_facts import MeterFacts

logger = logging.getLogger(__name__)
# Slow meters, a cold device, and the compiler's first kernel.
LEARNING_S = 60.0


class MeterKeeper:
    """The meter's calibration of one session.

    Attributes:
        on_learnt: Told of the calibration, before the first window of a candidate.
    """

    def __init__(self) -> None:
        self.on_learnt: Callable[[MeterFacts], None] = lambda facts: None
        self._reference: Anchor | None = None
        self._facts: MeterFacts | None = None
        self._taught = 0

    @property
    def facts(self) -> MeterFacts | None:
        """This session's calibration, ``None`` before it."""
        return self._facts

    def continue_from(self, first: MeterFacts | None) -> None:
        """Compare anchors with those of the run's first session."""
        if first is not None and first.anchor_mj is not None:
            self._reference = Anchor(energy_mj=first.anchor_mj, ci95_mj=first.anchor_ci95_mj or 0.0)

    def require(self, device: DeviceProcess, anchor_library: Callable[[], str]) -> None:
        """Calibrate, or hand an earlier calibration to a process that replaced another.

        A calibration that fails is told in the log: windows then stand on their own.

        Args:
            device: Measures.
            anchor_library: Gives the library of the anchor kernel.
        """
        if device.opened().meter == "none" or device.n_openings == self._taught:
            return
        try:
            request = MeterRequest(
                anchor_library=anchor_library(), reference=self._reference, known=self._facts
            )
            facts = device.call("learn_meter", request, answer=MeterFacts, timeout_s=LEARNING_S)
        except (CompilerUnavailable, WorkerDied, WorkerLate, WorkerRaised) as error:
            logger.warning("the energy meter was not calibrated: %s", error)
            device.opened()
        else:
            self.continue_from(None if self._reference else facts)
            if self._facts is None:
                self._facts = facts
                self.on_learnt(facts)
        self._taught = device.n_openings
