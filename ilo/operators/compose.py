"""Operators in sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ilo.operators.base import MAX_SEED, Operator
from ilo.operators.noise import Noise
from ilo.operators.registry import build, find
from ilo.operators.resizing import enlarge_nearest, widen
from ilo.operators.setting import Setting
from ilo.settings import SettingsError, check_whole
from ilo.text.words import shown

MOST_PARTS = 16  # maximum number of operators, including nested sequences
MOST_LEVELS = 4  # maximum nesting depth of sequences


class Compose(Operator):
    """Operators in sequence: y = A_k(… A_1(x)); each adds its own noise when measuring.

    All but the last must give a colour picture; operators after a super-resolution act at its smaller size.

    An entry of the list is an `Operator`, or its name and settings as a dict, such as
    `{"name": "denoise", "sigma": 10}`. At most 16 operators are allowed, and sequences may be nested 4 deep. `mask` is
    the mask for an inpaint entry given as a dict.
    """

    name, title, formula = "compose", "Sequence", "y = A_k(… A_1(x))"
    help = "Several kinds of damage, one after the other."
    shrinks = True
    operators: tuple[Operator, ...] = Setting.parts(
        label="Operators",
        help="The operators in the order in which they apply, each with its settings.",
        suggested=lambda _: [{"name": "super-resolve", "factor": 2}, {"name": "denoise", "sigma": 10.0}],
    )
    mask: torch.Tensor | None = Setting.mask(None, help="The mask for the operator in the sequence that needs one.")

    def prepare(self) -> None:
        operators: Any = self.operators
        mask: Any = self.mask
        resolution = self.resolution
        if not isinstance(operators, (list, tuple)) or not operators:
            raise SettingsError(f"operators is {shown(operators)}; give a list of at least one operator.")
        _check_extent(operators)
        shape: tuple[int, ...] = (3, resolution, resolution)
        chain: list[Operator] = []
        for entry in operators:
            if len(shape) != 3 or shape[0] != 3:
                raise SettingsError(f"{chain[-1].title} does not give a colour picture; put it last.")
            operator, mask = _resolve(entry, shape[-1], mask)
            chain.append(operator)
            shape = operator.measurement_shape
        if mask is not None:
            raise SettingsError("A mask is given, but no operator in the list can use it; omit it.")
        self.operators = tuple(chain)
        self.linear = all(operator.linear for operator in chain)
        self.holes = any(operator.holes for operator in chain)
        self.upload = "as it is" if all(operator.upload == "as it is" for operator in chain) else "no"
        painted = [operator.mask for operator in chain if operator.mask_setting() is not None]
        self.mask = next((m for m in painted if m is not None), None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for operator in self.operators:
            x = operator(x)
        return x

    def transpose(self, y: torch.Tensor) -> torch.Tensor:
        for operator in reversed(self.operators):
            y = operator.adjoint(y)
        return y

    def measure(self, x: torch.Tensor, seed: int = 0, noise: Noise | None = None) -> torch.Tensor:
        """Measure with each operator in turn, adding its own noise.

        `noise` replaces the noise model of the last operator.
        """
        check_whole("seed", seed, 0, MAX_SEED)
        last = len(self.operators) - 1
        for stage, operator in enumerate(self.operators):
            x = operator.measure(x, (seed + 1_000_003 * stage) % MAX_SEED, noise if stage == last else None)
        return x

    @property
    def noise(self) -> Noise:
        return self.operators[-1].noise

    @property
    def assumed_noise(self) -> Noise:
        return self.operators[-1].assumed_noise

    def expected(self, x: torch.Tensor, noise: Noise | None = None) -> torch.Tensor:
        """The mean measurement, approximately: each operator is given the mean of what the one before it gives.

        That is exact if the later operators are linear and their noise is not clipped. `noise` replaces the assumed
        noise of the last operator.
        """
        return self.last.expected(self.entering(x), noise)

    def perturbed(self, x: torch.Tensor, rngs: list[torch.Generator], noise: Noise | None = None) -> torch.Tensor:
        """One random measurement, in which each operator adds its own noise; `noise` replaces that of the last."""
        return self.last.perturbed(self.entering(x, rngs), rngs, noise)

    def noise_level(self, noise: Noise | None = None) -> float:
        """The largest σ of all operators' noise; `noise` replaces that of the last one."""
        *earlier, last = self.operators
        return max(last.noise_level(noise), *(operator.noise_level() for operator in earlier), 0.0)

    @property
    def last(self) -> Operator:
        return self.operators[-1].last

    def entering(self, x: torch.Tensor, rngs: list[torch.Generator] | None = None) -> torch.Tensor:
        *earlier, last = self.operators
        for operator in earlier:
            x = operator.expected(x) if rngs is None else operator.perturbed(x, rngs)
        return last.entering(x, rngs)

    def check_measurement(self, y: torch.Tensor) -> None:
        self.operators[-1].check_measurement(y)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return self.operators[-1].measurement_shape

    @property
    def observed(self) -> int:
        """The minimum over the operators, because lost values cannot be recovered by later ones."""
        return min(operator.observed for operator in self.operators)

    @property
    def normaliser(self) -> int:
        return min(operator.normaliser for operator in self.operators)

    @property
    def compares_features(self) -> bool:
        return all(operator.compares_features for operator in self.operators)

    @property
    def fills(self) -> bool:
        return self.operators[-1].fills

    def comparable(
        self, image: torch.Tensor, prediction: torch.Tensor, y: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        return self.last.comparable(image, prediction, y, size) if self.compares_features else None

    def picture(self, y: torch.Tensor) -> torch.Tensor:
        return enlarge_nearest(self.operators[-1].picture(widen(y)), self.resolution)

    def settings(self) -> dict[str, Any]:
        return {"operators": [{"name": operator.name, **operator.settings()} for operator in self.operators]}


def _check_extent(operators: Sequence[Any]) -> None:
    """Raises `SettingsError` for too many operators or too deeply nested sequences, before building any of them."""
    level, levels, parts = list(operators), 1, 0
    while level:
        parts += len(level)
        if parts > MOST_PARTS or levels > MOST_LEVELS:
            given = f"{parts:,} operators or more" if parts > MOST_PARTS else f"sequences {levels} deep or deeper"
            raise SettingsError(
                f"{Compose.title} is given {given}; allowed are {MOST_PARTS} operators in all, sequences included, "
                f"and sequences {MOST_LEVELS} deep."
            )
        level = [part for entry in level for part in _parts(entry)]
        levels += 1


def _parts(entry: Any) -> Sequence[Any]:
    """The operators in a nested sequence; empty for any other entry."""
    if isinstance(entry, Compose):
        return entry.operators
    within = entry.get("operators") if isinstance(entry, Mapping) and entry.get("name") == Compose.name else None
    return within if isinstance(within, (list, tuple)) else ()


def _resolve(entry: Operator | Mapping[str, Any], resolution: int, mask: Any) -> tuple[Operator, Any]:
    """The operator of an entry, and the mask if it has not been used yet."""
    if isinstance(entry, Operator):
        if entry.resolution != resolution:
            raise SettingsError(
                f"{entry.title} is made for {entry.resolution} px but gets pictures of {resolution} px."
            )
        return entry, mask
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise SettingsError(f"An operator is {shown(entry)}; give an Operator, or a dict with its name and settings.")
    settings = {key: value for key, value in entry.items() if key != "name"}
    kind = find(entry["name"])
    wanted = kind.mask_setting()
    if wanted is not None and wanted.required and "mask" not in settings:
        if mask is None:
            raise SettingsError(f"{kind.title} has no mask; give one as the setting mask.")
        settings["mask"], mask = mask, None
    return build(entry["name"], resolution, **settings), mask
