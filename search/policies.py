"""The energy policy a configuration names."""

from __future__ import annotations

from search.config import SearchConfig
from search.energy_policy import EnergyPolicy
from search.policy_all import MeasureAll
from search.policy_never import NeverAfterWarmUp
from search.policy_overlap import OverlapsIncumbent
from search.policy_snr import SharedBySnr
from search.policy_top import TopPredicted
from search.policy_worth import WorthTheWindow


def make_policy(config: SearchConfig) -> EnergyPolicy:
    """A new policy; see ``energy_policy`` of :class:`~search.config.SearchConfig`."""
    makers: dict[str, EnergyPolicy] = {
        "top": TopPredicted(config),
        "snr": SharedBySnr(config),
        "overlap": OverlapsIncumbent(config),
        "worth": WorthTheWindow(config),
        "measure_all": MeasureAll(),
        "never": NeverAfterWarmUp(config),
    }
    return makers[config.energy_policy]
