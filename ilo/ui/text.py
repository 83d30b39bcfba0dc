"""All words of the page."""

from __future__ import annotations

TITLE = "ILO Studio"
TAGLINE = "Repair a damaged face photo with a generative model, and watch it work"
DISCLAIMER = "A reconstruction is one plausible picture, not an identification of a person."

TRUTH = {
    "here": ("Damage it here", "The page damages it, so the truth is known."),
    "given": ("Already damaged", "The picture itself is what was measured."),
}

PERCEPTUAL = {  # name of the distance → what the page says of it before a run; None: there is none
    "lpips-vgg": "Perceptual term: LPIPS with VGG-16.",
    "robust64": (
        "Perceptual term: features of the robust classifier. LPIPS comes with `python -m ilo models fetch lpips-vgg`."
    ),
    None: "Perceptual term: off, because no weights for it are on this machine; pixels alone are compared.",
}
PERCEPTUAL_USED = {  # and after it; None: the run did not use one
    "lpips-vgg": "Pixels were compared, and features by LPIPS.",
    "robust64": "Pixels were compared, and features of the robust classifier.",
    None: "Only pixels were compared; this measurement, or the loss weights, left no perceptual term.",
}

READY = "Ready"
READY_HELP = (
    "Press Run. The solver never sees the hidden part: it searches a face generator for a picture that, damaged in the "
    "same way, gives what was measured."
)
HOW = (
    ("Latent code", "First the code that the whole picture grows from is searched."),
    ("Layer by layer", "Then the features inside the network are bent, coarse ones first."),
    ("Small balls", "Each bend stays inside an l1 ball, so that the picture stays a face."),
)
DOWNLOAD = "Download everything (.zip)"
PREVIEW = "Input: this is all the solver sees"
BUSY = "You already have a run in progress, here or in the other tab; stop it first or let it finish."
FAILED = "Something went wrong inside the studio; the log of the server has it. Your settings are kept."
STOPPED_EARLY = "Stopped before the first step, so there is nothing to keep."
NOTHING = "There is no result, so what you see is as it was."
MASK_CUT = "The mask is as large as the photograph and has been cut out like the picture."
GONE = "The picture is no longer here; choose or upload it again."
SAVING_FAILED = "The results stay on this page, but the download could not be made: "

LINK = "Link to this task and its settings"
LINKED = "Task and settings are those of the link; the picture is yours to choose."

RESIDUAL = "unexplained"
RESIDUAL_HELP = "Measurement minus the reconstruction damaged in the same way, 4× amplified; grey is no difference."
RESIDUAL_BACK_HELP = (
    "Measurement minus the reconstruction's own, mapped back to pixels and stretched; grey is no difference."
)


# Limits of the page.

UPLOADS_BUSY = "Many pictures are being uploaded just now; try again in a minute."
UPLOAD_TOO_SLOW = "The upload took too long, so it was ended; try again, or make the picture smaller first."


def too_many_steps(steps: int, most: int) -> str:
    return (
        f"This run would take {steps:,} steps in all; this page allows {most:,}. Lower the steps, the searches or the "
        "range steps; the command line has no such limit."
    )


def line_full(most: int) -> str:
    return f"The line is full: {most} runs are waiting already. Try again in a few minutes."


def turn_over(seconds: float) -> str:
    return (
        f"Others are waiting, and this run has had its {seconds / 60:.0f} minutes, so it was ended. The best picture "
        "so far is kept; with fewer steps a run comes to its end."
    )


def request_too_large(most: int) -> str:
    return f"The request has more than {most // 1024:,} KB, which this page never needs; nothing of it was used."


def upload_too_large(most: int) -> str:
    return f"The file has more than {most // 1024**2:,} MB; make the picture smaller, and upload it again."


def steps_allowed(most: int) -> str:
    return f"A run on this page may have {most:,} steps in all." if most else ""


def waiting(ahead: int) -> str:
    runs = "Another run is" if ahead == 1 else f"{ahead} other runs are"
    return f"{runs} ahead of yours. It starts by itself; Press Stop to leave the queue."


def layer_size(layer: int) -> str:
    """Name of the layer whose input round `layer` searches: block b(4·2^layer) works on features half its size."""
    return "latent code" if layer == 0 else f"layer {4 * 2**layer}×{4 * 2**layer}"


def headline(layer: int, rounds: int) -> str:
    return f"Round {layer + 1} of {rounds} · {layer_size(layer)}"


def film_label(label: str) -> str:
    """The recorder's label of a film's frame, in the page's words."""
    if not label.startswith("round "):
        return label
    number, _, search = label.removeprefix("round ").partition(", search ")
    name = layer_size(int(number)).removeprefix("layer ")
    return f"{name} ({search})" if search else name


def sentence(layer: int, features: float | None, elements: int) -> str:
    """What is happening now.

    Args:
        layer: the round.
        features: ρ of the ball around its features; None without a ball.
        elements: p, the number of those features.
    """
    if layer == 0:
        return "Searching the latent code and the first noise maps for a picture that explains the measurement."
    side = 2 * 2**layer
    if features is None:
        return f"Bending the {side}×{side} features that enter this layer, with nothing to hold them back."
    return (
        f"Bending the {side}×{side} features that enter this layer by at most r = {features * elements:.0f} in all "
        f"(ρ = {features:g} each)."
    )


def remaining(seconds: float) -> str:
    if seconds < 1:
        return "almost done"
    return f"{seconds:.0f} s left" if seconds < 90 else f"{seconds / 60:.0f} min left"


def finished(stopped: bool, done: int, total: int, seconds: float) -> tuple[str, str]:
    """Headline and sentence after a run."""
    if stopped:
        return "Stopped", f"The best picture of {done} of {total} steps is kept, with everything below."
    return "Done", f"{total} steps in {seconds:.1f} s. Slide over the picture to compare."


# Photographs.

PHOTO_NO_FACE = "No face was found. Move the picture with Crop, or place the eyes by hand."
PHOTO_WHOLE = "The photograph is used as it is; Crop moves it."
PHOTO_EYES = "The face is cut out by the eyes that were placed by hand."
PHOTO_WHOLE_TILE = "The photograph as it is, not turned to any face"
PHOTO_COMPARED = ("photograph", "with the result")
CROP_VIEW, PHOTO_VIEW = "Crop", "Back in the photograph"
PHOTO_SAVED = "photo.png in the download is the whole photograph, in full size, with the result in it."


def photo_face(number: int, count: int, offered: int) -> str:
    """Which of the photograph's faces is used; 0 is the largest one."""
    if count == 1:
        return "1 face was found."
    if number == 0:
        all_ = "" if offered == count else f" The {offered} largest are offered."
        return f"{count} faces were found; this is the largest.{all_}"
    return f"Face {number + 1} of {count}, counted from the largest."


def photo_damaged(count: int) -> str:
    faces = "the face" if count == 1 else "a face"
    return f"The picture is used as it is, because it is already damaged. Pick {faces} above to have it cut out."


def photo_tile(number: int, count: int) -> str:
    return "The face, set upright" if count == 1 else f"Face {number + 1} of {count}, set upright"


def room(needed: str, free: str, fits: bool) -> str:
    """What a run takes of the memory, and whether it fits."""
    words = f"A run takes about {needed} of memory; {free} are free."
    return words if fits else f"{words} So it takes a slower way that needs less, or says that it cannot."


# The Morph tab.

STARTS = {
    "face": ("A generated face", "The generator draws it; a different seed gives a different face."),
    "photo": ("A photograph", "It is inverted first: the generator's nearest face is where it begins."),
}
GUIDES = {
    "robust64": ("Robust", "Trained under attack: to please it, a picture must really change."),
    "standard64": ("Standard", "Trained as usual: it is pleased by less; over pixels, by what nobody else sees."),
    "robust-resnet50": ("1,000 classes", "A robust ResNet-50 that knows all of ImageNet's classes; slower."),
}
MORPH_READY_HELP = (
    "Choose a class and press Run. A face is bent, layer by layer, towards what a classifier takes for that class."
)
MORPH_HOW = (
    ("No measurement", "Nothing is reconstructed: the classifier's opinion is all that is followed."),
    ("Small balls", "Each layer may move only so far, so a face stays: one that looks like a frog."),
    ("Robust", "A classifier that was trained under attack asks for changes that people see, too."),
)
MORPH_PREVIEW = "The face that it begins with"
SEES = "What the classifier sees"
INVERTING = "Inverting the photograph"
INVERTING_HELP = "Searching the latent code of the face that comes nearest to the photograph."
PIXELS_HELP = "Moving the pixels themselves, inside one ball."
MORPH_CODE_HELP = "Moving the latent code and the first noise maps, inside their balls, towards the class."
REACH_HELP = "How far each layer may leave the first face; right is further."
MOSAIC = "×½ and ×1 above, ×2 and ×4 below"
SWEEP = "Compare five radii"
SWEEP_HELP = "The same run with every radius times 0, ½, 1, 2 and 4, side by side."
SWEEP_SCALES = {0.0: "×0", 0.5: "×½", 1.0: "×1", 2.0: "×2", 4.0: "×4"}
SWEEP_DONE = "Five runs from the same start; only the radii differ."


def morph_finished(stopped: bool, wanted: str, probability: float) -> tuple[str, str]:
    """Headline and sentence after a morph."""
    headline = "Stopped" if stopped else "Done"
    return headline, f"To the classifier, {wanted} is now {100 * probability:.0f} % likely."


# The Models tab.

NOT_OWNER = "Only the owner of this page may do that: open it at the address that was printed when it was started."
WHICH_DOWNLOAD = "Choose one of the models that can be fetched."
WHICH_MODEL = "Give the name of a generator, or the path of its file on this machine (.pkl, .pt or .safetensors)."
RESTARTING = "It can be used. The page starts again with it, and is back in some seconds."
USE_HELP = "The page starts again, for everybody: runs that are going on are lost. Nothing in the file is executed."


def model_unusable(name: str, reason: str) -> str:
    return f"{name} can be read, but a run with it fails ({reason}). The page keeps its model; choose another one."


def model_failed(name: str, reason: str) -> str:
    return f"The page could not start with {name} ({reason}), so it is back with the model before."


def fetched(name: str, kind: str) -> str:
    """What to do with a model that has come."""
    if kind == "generator":
        return f"{name} is here; write its name below “Use”."
    if kind == "detector":
        return f"{name} is here, and finds the faces from now on."
    return f"{name} is here, and is used when the page is started again."
