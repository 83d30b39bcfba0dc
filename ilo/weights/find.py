"""Which file a model's name stands for, and one sentence for whatever is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ilo.text.words import shown
from ilo.weights import download, registry
from ilo.weights.download import DownloadError
from ilo.weights.lazy import ReadError
from ilo.weights.registry import Kind

logger = logging.getLogger(__name__)


def find(name: str, kind: Kind, suffixes: tuple[str, ...], failure: type[ValueError]) -> Path:
    """The weights file of a model.

    Args:
        name: an id of the registry, or the path of a file.
        kind: what the model is.
        suffixes: how a file's name may end.
        failure: the error to raise; its message says what to do.
    """
    known = registry.ids(kind)
    if name in known:
        try:
            return download.checked(registry.BY_ID[name])
        except DownloadError as error:
            raise failure(str(error)) from None
    if Path(name).suffix not in suffixes:
        raise failure(
            f"There is no {kind} {name!r}. Known are {', '.join(known)}, or give the path of a file that ends in "
            f"{', '.join(suffixes)}."
        )
    return Path(name)


@contextmanager
def reading(path: Path, failure: type[ValueError]) -> Iterator[None]:
    """Raise `failure` for whatever goes wrong while a file is read; its message names the file and the reason."""
    try:
        yield
    except failure:
        raise
    except ReadError as error:
        raise failure(f"{path.name}: {error}.") from None
    except FileNotFoundError:
        raise failure(f"{path.name}: there is no such weights file. Check the name.") from None
    except OSError as error:
        raise failure(f"{path.name}: it cannot be read ({error.strerror}). Copy or fetch it again.") from None
    except Exception as error:  # a file that nobody has thought of
        logger.exception("%s could not be read", path.name)
        raise failure(f"{path.name}: it cannot be used ({type(error).__name__}: {shown(str(error))}).") from error
