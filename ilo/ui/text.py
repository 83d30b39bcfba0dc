"""All texts of the page."""

from __future__ import annotations

from collections.abc import Sequence

TITLE = "ILO Studio"
TAGLINE = "Repair a damaged face photo with a generative model, and watch it work"
DISCLAIMER = "A reconstruction is one plausible picture, not an identification of a person."

TRUTH = {
    "here": ("Damage it for me", "We keep the original, so the result can be scored."),
    "given": ("Already damaged", "Your picture is the input as it is; there is no original to compare with."),
}

PERCEPTUAL = {  # name of the perceptual distance → sentence before a run; None: no distance is available
    "lpips-vgg": "Perceptual loss: LPIPS with VGG-16.",
    "robust64": "Perceptual loss: features of the robust classifier.",
    None: "Perceptual loss: off, because its weights are missing on this machine. Only pixels are compared.",
}
PERCEPTUAL_USED = {  # the same after a run; None: the run used none
    "lpips-vgg": "The loss compared pixels and LPIPS features.",
    "robust64": "The loss compared pixels and features of the robust classifier.",
    None: "No perceptual loss was used in this run.",
}

READY = "Ready"
READY_HELP = (
    "Press Run and watch it happen. The solver looks for a face that, after the same damage, matches the input. It "
    "never sees the hidden part."
)
HOW = (
    ("Latent code", "First it looks for the code that generates the closest face."),
    ("Layer by layer", "Then it adjusts the features inside the network, coarse ones first."),
    ("Small changes", "Each change is kept small (an l1 ball), so the picture stays a face."),
)
DOWNLOAD = "Download everything (.zip)"
PREVIEW = "Input: this is all the solver sees"
BUSY = "You already have a run in progress, here or in the other tab; stop it first or let it finish."
FAILED = "Something went wrong inside the studio; the log of the server has the details. Your settings are kept."
STOPPED_EARLY = "Stopped before the first step, so there is nothing to keep."
NOTHING = "This run has no result. The page still shows what it showed before."
MASK_CUT = "The mask has the size of the photograph, so it was cropped in the same way."
GONE = "The page no longer has this picture; choose or upload it again."
SAVING_FAILED = "The results stay on this page, but the download could not be made: "

LINK = "Link to this task and its settings"
COPY, COPIED, NOT_COPIED = "Copy as Python", "Copied", "Not copied: the browser forbids it"
COPY_HELP = "The code that repeats this run; start it in the folder of the unpacked download."
OPEN = "Open a run"
OPENED, OPENED_HELP = "Opened", "The saved run has set the task, its settings and the picture. Press Run to repeat it."
SAVED_RESULT = "Saved result"
LINKED = "The link has set the task and its settings. Choose a picture and press Run."

MEASURED, TRUTH_LABEL, RESIDUAL = "input", "truth", "residual"  # captions of the small pictures
TRUTH_HELP = "The original, which the solver never sees."
FIT, TRUE, TRUE_HOLE = "fit to the input", "true error", "true error in the hole"  # rows of the scores
MSE = "MSE, ×10⁻³"
RESIDUAL_HELP = "The input minus the reconstruction after the same damage, amplified 4×. Grey means no difference."
RESIDUAL_BACK_HELP = (
    "The input minus the reconstruction after the same damage, mapped back to pixels and stretched. Grey means no "
    "difference."
)


# Limits of the page.

NO_MCP = (
    "The page is served without MCP tools, because their package is missing; install it with pip install 'gradio[mcp]'."
)
API_BUSY = "You already have a run in progress; wait until it has finished."
NO_PICTURE = (
    "No picture was sent; send an uploaded file, the file's bytes as base64 or as a data URL, or the name of an "
    "example. Addresses and paths are not opened."
)
NOT_UPLOADED = "The path is not that of an upload to this page; upload the picture first, or send its bytes as base64."
UPLOAD_GONE = "The page no longer has this upload; upload the picture again."
NO_ADDRESSES = "The request names a file by its web address, which this page does not open; upload the file instead."
UPLOADS_BUSY = "Too many pictures are being uploaded at the moment; try again in a minute."
UPLOAD_TOO_SLOW = "The upload took too long and was stopped; try again, or make the picture smaller first."


def format_not_offered(dtype: str, offered: Sequence[str]) -> str:
    return f"The network cannot usefully compute in {dtype} here; this page offers {', '.join(offered)}."


def too_many_steps(steps: int, most: int) -> str:
    return (
        f"This run would take {steps:,} steps in total; this page allows {most:,}. Reduce the steps, the searches or "
        "the range steps. The command line has no such limit."
    )


def line_full(most: int) -> str:
    return f"The queue is full: {most} runs are already waiting. Try again in a few minutes."


def turn_over(seconds: float) -> str:
    return (
        f"Others are waiting and this run has used its {seconds / 60:.0f} minutes, so it was stopped. The best picture "
        "so far is kept. With fewer steps a run can finish in time."
    )


def request_too_large(most: int) -> str:
    return f"The request is larger than {most // 1024:,} KB, which this page never needs, so it was refused."


def upload_too_large(most: int) -> str:
    return f"The file is larger than {most // 1024**2:,} MB; make the picture smaller and upload it again."


def steps_allowed(most: int) -> str:
    return f"A run on this page may take {most:,} steps in total." if most else ""


# The machines that make the runs.

DAMAGED = {  # what an error said about the machine → sentence
    "memory": (
        "The device ran out of memory, so this run ended; what it had found is kept. Press Run again, with fewer "
        "rounds or with bfloat16 under “Layers, radii and weights” if it happens again."
    ),
    "device": (
        "The device that made this run has failed; what it had found is kept. Press Run again: if another device "
        "is left, it makes the run."
    ),
}
NO_MACHINE = "No device of this page works any more, so it makes no runs until its owner starts it again."


def together(names: Sequence[str]) -> str:
    """The names of devices in one phrase: equal ones are counted."""
    counts = {name: names.count(name) for name in names}
    return " and ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())


def device_full(device: str, reason: str) -> str:
    return (
        f"The models cannot be put on {device} ({reason}); choose another device with --device, free its memory, or "
        "choose fewer or smaller models."
    )


def gpu_time_over(seconds: int) -> str:
    return (
        f"The {seconds} s of GPU time for this run are over, so it was stopped; the best picture so far is kept. With "
        "fewer steps a run can finish."
    )


ZEROGPU = {  # title of an error of ZeroGPU → what happened, and what to do
    "ZeroGPU quota exceeded": (
        "The GPU time that Hugging Face lends you is used up",
        "Sign in to Hugging Face for more, come back later, or duplicate this Space.",
    ),
    "ZeroGPU illegal duration": (
        "This run would take more GPU time than Hugging Face lends at once",
        "Reduce the steps, sign in to Hugging Face, or duplicate this Space.",
    ),
    "ZeroGPU pending credits exceeded": (
        "Too many runs use your GPU time at the moment",
        "Wait until one of them has ended.",
    ),
    "ZeroGPU queue timeout": (
        "No GPU was free for this run",
        "Try again in a minute, or sign in to Hugging Face, which gives you a better place in the queue.",
    ),
    "ZeroGPU client error": (
        "Hugging Face did not lend a GPU for this run",
        "Try again in a minute; if it happens again, load the page anew.",
    ),
    "ZeroGPU worker error": (
        "The GPU ended this run early",
        "What it had found is kept. Press Run again, with fewer steps if it happens again.",
    ),
}


def zerogpu(title: str, message: str) -> str:
    """An error of ZeroGPU with the way out."""
    happened, cure = ZEROGPU.get(title, ("ZeroGPU cannot make this run", "Try again in a minute."))
    return f"{happened} ({message.strip().rstrip('.')}). {cure}"


def waiting(ahead: int) -> str:
    runs = "Another run is" if ahead == 1 else f"{ahead} other runs are"
    return f"{runs} ahead of yours. It starts automatically. Press Stop to leave the queue."


def layer_size(layer: int) -> str:
    """Name of the layer whose input round `layer` optimises; block b(4·2^layer) takes features half its size."""
    return "latent code" if layer == 0 else f"layer {4 * 2**layer}×{4 * 2**layer}"


def capitalized(name: str) -> str:
    return name[0].upper() + name[1:]


def headline(layer: int, rounds: int) -> str:
    return f"Round {layer + 1} of {rounds} · {layer_size(layer)}"


def film_label(label: str) -> str:
    """The page's label for a frame of the film, from the recorder's label."""
    if not label.startswith("round "):
        return label
    number, _, search = label.removeprefix("round ").partition(", search ")
    name = "code" if number == "0" else layer_size(int(number)).removeprefix("layer ")
    return f"{name} ({search})" if search else name


def film_help(label: str) -> str:
    """What a tile shows, from its label."""
    if label == "start":
        return "The face that the search starts from."
    if label == "stopped":
        return "The best picture when the run was stopped."
    return f"The best picture at the end of: {label}."


def decibels(psnr: float) -> str:
    return f"{psnr:.1f} dB"


def recorded(steps: int, seconds: int, model: str) -> str:
    """The caption of a recorded run; `model` made it, and is "" where that is the page's own."""
    return f"A recorded run{f' of {model}' if model else ''}: {steps:,} steps, shown in {seconds} s"


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def sentence(layer: int, features: float | None) -> str:
    """What the run is doing now.

    Args:
        layer: the round.
        features: ρ of the ball around the layer's features; None if there is no ball.
    """
    if layer == 0:
        return "Looking for the latent code and the first noise maps that best match the input."
    side = 2 * 2**layer
    limit = "without a limit" if features is None else f"by at most {percent(features)} in total"
    return f"Adjusting the {side}×{side} features that enter this layer, {limit}."


def remaining(seconds: float) -> str:
    if seconds < 1:
        return "almost done"
    return f"{seconds:.0f} s left" if seconds < 90 else f"{seconds / 60:.0f} min left"


def finished(stopped: bool, done: int, total: int, seconds: float) -> tuple[str, str]:
    """Headline and sentence after a run."""
    if stopped:
        return (
            "Stopped",
            f"Stopped after {done} of {total} steps. The best picture so far is kept, with everything below.",
        )
    return "Done", f"{total} steps in {seconds:.1f} s. Drag the divider on the picture to compare."


# Photographs.

PHOTO_NO_FACE = "No face was found. Move the picture with Crop, or mark the eyes by hand."
PHOTO_WHOLE = "The whole photograph is used. Crop selects a part of it."
PHOTO_EYES = "The face is cut out around the eyes that you marked."
PHOTO_WHOLE_TILE = "The whole photograph, not aligned to a face"
PHOTO_COMPARED = ("photograph", "with the result")
CROP_VIEW, PHOTO_VIEW = "Face", "Whole photo"
PHOTO_SAVED = "The download contains photo.png: the whole photograph in full size, with the result in it."


def photo_face(number: int, count: int, offered: int) -> str:
    """Which face of the photograph is used; 0 is the largest."""
    if count == 1:
        return "1 face was found."
    if number == 0:
        all_ = "" if offered == count else f" You can choose from the {offered} largest."
        return f"{count} faces were found; this is the largest.{all_}"
    return f"Face {number + 1} of {count}, counted from the largest."


def photo_damaged(count: int) -> str:
    faces = "the face" if count == 1 else "a face"
    return f"The picture is already damaged, so it is used as it is. Click {faces} above to cut it out."


def photo_tile(number: int, count: int) -> str:
    return "The face, upright" if count == 1 else f"Face {number + 1} of {count}, upright"


def room(needed: str, free: str | None, fits: bool) -> str:
    """The memory that a run needs, and whether it fits; `free` is None where that is not known."""
    words = f"A run needs about {needed} of memory{f'; {free} are free' if free else ''}."
    return words if fits else f"{words} It will run more slowly with less memory, or report that it does not fit."


# The Morph tab.

STARTS = {
    "face": ("A generated face", "Drawn by the generator. A different seed gives a different face."),
    "photo": ("A photograph", "The photograph is first inverted through all layers; the run starts from there."),
}
GUIDES = {
    "robust64": ("Robust", "Adversarially trained: it is only convinced by visible changes."),
    "standard64": ("Standard", "Trained normally: smaller changes convince it; with Pixels, even invisible ones."),
    "robust-resnet50": ("1,000 classes", "A robust ResNet-50 for all 1,000 ImageNet classes; slower."),
}
MORPH_READY_HELP = (
    "Choose a class and press Run. The face changes, layer by layer, until the classifier sees that class."
)
MORPH_HOW = (
    ("No measurement", "Nothing is reconstructed: only the classifier's loss guides the search."),
    ("Small changes", "Each layer may change only a little, so it stays a face: one that looks like a frog."),
    ("Robust", "An adversarially trained classifier asks for changes that people can see."),
)
MORPH_PREVIEW = "The starting face"
SEES = "What the classifier sees"
INVERTING = "Inverting the photograph"
INVERTING_HELP = "Finding the photograph in the generator: the latent code first, then layer by layer."
PIXELS_HELP = "Changing the pixels directly, within one ball."
MORPH_CODE_HELP = "Moving the latent code and the first noise maps towards the class, each within its ball."
REACH_HELP = "How much each layer, or the pixels, may change."
MOSAIC = "Results with different radii"
SWEEP = "Compare five radii"
SWEEP_HELP = "Repeats the run with every radius multiplied by 0, ½, 1, 2 and 4, side by side."
SWEEP_SCALES = {0.0: "×0", 0.5: "×½", 1.0: "×1", 2.0: "×2", 4.0: "×4"}
SWEEP_DONE = "Five runs from the same start; only the radii differ."


def morph_finished(stopped: bool, probabilities: dict[str, float]) -> tuple[str, str]:
    """Headline and sentence after a morph; `probabilities` are those of the wanted classes."""
    headline = "Stopped" if stopped else "Done"
    seen = ", ".join(f"{100 * probability:.0f} % {name}" for name, probability in probabilities.items())
    return headline, f"The classifier now says: {seen}."


def changed_by(distance: float, count: int) -> str:
    """How far a morph moved: the L2 distance of two pictures with `count` values from 0 to 1, and what it means."""
    levels = 255 * distance / count**0.5
    return (
        f"Distance from the start: ‖x′ − x‖₂ = {distance:.2f}, with pixel values from 0 to 1. "
        f"That is a typical change of {levels:.1f} of 255 levels at each value."
    )


def pixels_limit(radius: float) -> str:
    """What ρ of the ball around the pixels, which lie in [−1, 1], allows."""
    return (
        f"{radius:g}: {127.5 * radius:.2g} of 255 levels per value on average" if radius < float("inf") else "no ball"
    )


# The Models tab.

NOT_OWNER = "Only the owner of this page may do that. Open the page at the address that app.py printed at the start."
WHICH_DOWNLOAD = "Choose a model from the list of downloads."
WHICH_MODEL = "Enter the name of a generator, or the path of its file on this machine (.pkl, .pt or .safetensors)."
RESTARTING = "The model works. The page restarts with it and is back in a few seconds."
USE_HELP = "The page restarts for everybody, and runs in progress are lost. Nothing in the file is executed."


def model_unusable(name: str, reason: str) -> str:
    return f"{name} can be read, but a run with it fails ({reason}). The page keeps its current model; choose another."


def model_failed(name: str, reason: str) -> str:
    return f"The page could not start with {name} ({reason}), so it uses the previous model again."


def fetched(name: str, kind: str) -> str:
    """What to do next with a downloaded model."""
    if kind == "generator":
        return f"{name} is downloaded. To use it, enter its name under “Use”."
    if kind == "detector":
        return f"{name} is downloaded and now detects the faces."
    return f"{name} is downloaded. The page uses it after its next start."
