"""The base class of metrics. Ranking, tables, plots and the glossary read what they need from the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.comparison import Comparison, Layers
from mixgan_cli.evaluation.extractors import has_layer, key_suffix, layer_for

Better = Literal["lower", "higher", "like_real"] | float | None
Role = Literal["value", "variant", "deviation", "of_real", "detail"]
Requirement = Literal["images", "points", "gate_weights", "discriminator"]

LAST = 1000
STD = "_std"


@dataclass(frozen=True)
class ResultKey:
    """What is known of one key that a metric writes into results.json.

    Args:
        better: which values are better: "lower", "higher", "like_real" (near the value of real samples, which the
            metric returns as KEY_real), or the ideal value itself, such as 0.5. None: neither.
        meaning: a sentence for the glossary.
        rank: the place in the order of metrics that decide which state or run is best; the lowest one that was
            computed decides. By default after all metrics of mixgan. None: it never decides.
        role: "value"; "variant", the same by another definition; "deviation" of another key (its name ends in _std);
            "of_real", what real samples score; "detail", a list or table that belongs to another key. Tables and plots
            show values only.
    """

    better: Better = None
    meaning: str = ""
    rank: int | None = LAST
    role: Role = "value"

    @property
    def decides(self) -> bool:
        """True if states of a run can be compared by this key."""
        return self.better is not None and self.rank is not None and self.role == "value"

    @property
    def best(self) -> str:
        """The best value, in words."""
        words = {"lower": "the lowest", "higher": "the highest", "like_real": "as of real samples", None: "none"}
        return words[self.better] if isinstance(self.better, str | None) else f"nearest to {self.better:g}"

    @property
    def arrow(self) -> str:
        """The best value, as a title of a plot shows it: ↓, ↑ or in words."""
        arrows = {"lower": "↓", "higher": "↑", "like_real": "(best: as of real samples)", None: ""}
        return arrows[self.better] if isinstance(self.better, str | None) else f"(best: {self.better:g})"


DEVIATION = ResultKey(role="deviation")
"""A key that ends in _sd: the deviation over several draws of latents."""


class Metric:
    """Computes one or more values of a comparison. Subclasses set the class attributes and write `compute`.

    It has no state and no arguments. Its settings are keys of `evaluation`, or class attributes.
    """

    name: ClassVar[str] = ""
    """The choice of `evaluation.metrics`. Several classes may share it. A class of your own is listed by its path."""
    results: ClassVar[Mapping[str, ResultKey]]
    """The keys that `compute` may return, without the extractor's suffix."""
    layer: ClassVar[str | None] = None
    """The metric of torch-fidelity whose feature layer this one uses: `fid`, `kid`, `prc` or `isc`. It is then computed
    with every extractor of the protocol, and its keys get the extractor's suffix. None: it uses no features."""
    requires: ClassVar[Sequence[Requirement]] = ()
    """What must be there: samples that are images or points, the gate's weights, or a discriminator."""
    panel: ClassVar[str | None] = None
    """Title of the panel of learning curves that all keys share. None: a panel for each key."""

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return values by result key.

        Args:
            comparison: generated and real samples, their features, and the mixture.
            extractor: the extractor whose features to use; None if `layer` is None.

        Raises:
            Unavailable: it cannot be computed, with the reason.
        """
        raise NotImplementedError

    def applies(self, comparison: Comparison) -> bool:
        """Return False if the model has nothing that this metric measures: then it is left out without a reason."""
        return True

    def needs(self, extractor: str, settings: Evaluation) -> Layers:
        """Return the layers of an extractor that it uses: by default all features of `layer`."""
        if self.layer is None or not has_layer(self.layer, extractor):
            return Layers()
        layer = frozenset({layer_for(self.layer, extractor, settings.feature_layer)})
        return Layers(fake=layer, real=layer)

    def extractors(self, comparison: Comparison) -> Sequence[str | None]:
        """Return the extractors to compute it with, or (None,) if it uses no features."""
        if self.layer is None:
            return (None,)
        return [name for name in comparison.settings.extractors if has_layer(self.layer, name)]

    def keys(self, extractor: str | None, feature_layer: str) -> dict[str, str]:
        """Return each result key with the name that it has for this extractor in results.json."""
        suffix = key_suffix(extractor, feature_layer)
        return {key: with_suffix(key, suffix) for key in self.results}

    def rank_value(self, key: str, suffix: str, values: Mapping[str, Any]) -> float:
        """Return a number that is lower for better values: the value, its negative, or its distance from the ideal.

        Args:
            key: one of `results` with a direction.
            suffix: of the extractor.
            values: of results.json, by key with suffix.
        """
        value, better = values[with_suffix(key, suffix)], self.results[key].better
        if better == "like_real":
            return abs(value - (values.get(with_suffix(f"{key}_real", suffix)) or 0.0))
        if isinstance(better, int | float):
            return abs(value - better)
        return -value if better == "higher" else value

    def check(self, comparison: Comparison) -> None:
        """Raise Unavailable if something that it requires is not there."""
        for requirement in self.requires:
            is_there, reason = {
                "images": (comparison.is_images, "only for images; for points take evaluation=points"),
                "points": (not comparison.is_images, "only for points"),
                "gate_weights": (comparison.weights_BK is not None, "these images do not come from a mixture"),
                "discriminator": (comparison.discriminator is not None, "needs the discriminator of a run"),
            }[requirement]
            if not is_there:
                raise Unavailable(reason)


def with_suffix(key: str, suffix: str) -> str:
    """Return a result key with an extractor's suffix, which stands before _std."""
    return f"{key.removesuffix(STD)}{suffix}{STD}" if key.endswith(STD) else f"{key}{suffix}"
