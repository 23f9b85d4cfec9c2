"""A set whose prompts the policy draws, to be trained on its own steps; its pairs are only measured and judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..config import TrainConfig
from ..exceptions import ConfigError
from ..pairs import Scan
from .encode import Opening, encode_empty
from .on_policy import OnPolicySource, window
from .pair_source import PairSource
from .paired import PairedData
from .training_data import Opened


@dataclass(frozen=True)
class StepwiseData:
    """Implements `training_data.TrainingData`."""

    scan: Scan

    def check(self, config: TrainConfig) -> None:
        """See `TrainingData.check`."""
        if self.scan.unpaired:
            raise ConfigError(
                f"`stepwise.method` draws the prompts of pairs, but {self.scan.folder.name} holds unpaired liked and "
                "disliked images; leave it out"
            )
        PairedData(self.scan).check(config)

    def open(self, config: TrainConfig, opening: Opening) -> Opened:
        """See `TrainingData.open`."""
        window(opening.process, config.stepwise, config.data)  # before the long work
        encode_empty(opening)
        opened = PairedData(self.scan).open(config, opening)
        assert isinstance(opened.source, PairSource)
        return replace(opened, source=OnPolicySource(rows=opened.source, spec=config.stepwise))
