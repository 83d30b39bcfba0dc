"""What a program has asked for, as orders for the queue. Nothing that arrives has been checked: it is any JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ilo.classifiers.classifier import Classifier
from ilo.guidance import Guidance
from ilo.methods import morph_preset, preset
from ilo.photos import portraits
from ilo.photos.detection import detect
from ilo.photos.masks import PRESET_MASKS, preset_mask
from ilo.photos.pictures import SMALLEST_SIDE, Crop, read_mask, to_tensor
from ilo.photos.tasks import build_problem
from ilo.priors.load import Model
from ilo.settings import SettingsError, check_choice, check_number, check_whole
from ilo.text.words import shown
from ilo.ui.parts.tasks import offered
from ilo.ui.runs.order import Order
from ilo.ui.sent import Sent


class Orders:
    """Makes orders from the arguments of `ilo.ui.api.Api.solve` and `morph`, whose docstrings explain them.

    Args:
        models: id → model; the first one is the default.
        guides: name → classifier; the first one is the default.
        sent: reads the pictures.

    Every method raises `SettingsError` or `PictureError`, with a sentence for the caller.
    """

    def __init__(self, models: Mapping[str, Model], guides: Mapping[str, Classifier], sent: Sent):
        self._models, self._guides, self._sent = models, guides, sent

    def model(self, name: Any) -> Model:
        """The model of that name; the default one if the name is empty."""
        name = name or next(iter(self._models))
        check_choice("model", name, tuple(self._models))
        return self._models[name]

    def problem(
        self,
        picture: Any,
        task: Any,
        settings: Any,
        mask: Any,
        method: Any,
        named: Any,
        seed: Any,
        damaged_here: Any,
        measurement_seed: Any,
        face: Any,
        model: Any,
    ) -> Order:
        """A problem to solve."""
        chosen = self.model(model)
        check_choice("task", task, tuple(offered()))
        kind = offered()[task]
        settings = {} if settings is None else settings
        if not isinstance(settings, dict) or "mask" in settings:
            raise SettingsError(f"settings is {shown(settings)}; give an object such as {{}}, and a mask as `mask`.")
        if not isinstance(damaged_here, bool):
            raise SettingsError(f"damaged_here is {shown(damaged_here)}; allowed are true and false.")
        kind.check_known(settings)
        tiny = not damaged_here and kind.shrinks
        image, crop = self._cut(picture, 2 if tiny else SMALLEST_SIDE, face, chosen)
        problem, given, _ = build_problem(
            chosen,
            image,
            task,
            {**kind.suggested(chosen.resolution), **settings},
            mask=None if mask is None or mask == "" else self._mask(mask, chosen),
            crop=crop,
            damaged_here=damaged_here,
            measurement_seed=measurement_seed,
        )
        made = preset(named, method, seed=seed, operator=problem.operator, prior=chosen)
        return Order(problem, made, given, damaged_here, chosen.id, measurement_seed)

    def morph(
        self,
        target: Any,
        picture: Any,
        seed: Any,
        second: Any,
        share: Any,
        method: Any,
        named: Any,
        reach: Any,
        classifier: Any,
        face: Any,
        model: Any,
    ) -> Order:
        """A face to change."""
        chosen = self.model(model)
        guide = classifier or next(iter(self._guides))
        check_choice("classifier", guide, tuple(self._guides))
        check_number("share", share, 0.01, 0.99)
        check_number("reach", reach, 0.0, 10.0)
        for name, value in (("target", target), ("second", second)):
            if not isinstance(value, str):
                raise SettingsError(f"{name} is {shown(value)}; give the name of a class.")
        classes = {target: 1.0} if second in ("", target) else {target: 1 - share, second: share}
        settings = morph_preset(named, method, layers=chosen.layers, seed=seed, reach=reach)
        guidance = Guidance(self._guides[guide], classes)
        photo = None
        if picture not in (None, ""):
            image, crop = self._cut(picture, SMALLEST_SIDE, face, chosen)
            photo = to_tensor(image, chosen.resolution, crop)
        return Order(guidance, settings, photo, False, chosen.id)

    def _cut(self, picture: Any, smallest: int, face: Any, model: Model) -> tuple[Image.Image, Crop]:
        """The picture, or one of its faces, and the part of it to use."""
        check_whole("face", face, 0, 1000)
        image, crop = self._sent.picture(picture, smallest)
        if not face:
            return image, crop
        pixels = np.asarray(image)
        found = detect(pixels)
        if face > len(found):
            raise SettingsError(f"face is {face}, but {portraits.counted(found)} found; 0 uses the whole picture.")
        cut, _ = portraits.cut(pixels, found[face - 1], model)
        return Image.fromarray(cut), Crop()

    def _mask(self, mask: Any, model: Model) -> Tensor:
        """The mask of a preset, or of a picture that was sent: [1, 1, H, W], 1 = observed."""
        if isinstance(mask, str) and mask in PRESET_MASKS:
            return preset_mask(mask, model.resolution, model.landmarks)
        return read_mask(self._sent.data(mask))
