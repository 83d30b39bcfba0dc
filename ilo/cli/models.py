"""`python -m ilo models list | fetch | check | verify | remove`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ilo.settings import SettingsError
from ilo.text.words import shown
from ilo.weights import cache, download, registry
from ilo.weights.download import DownloadError
from ilo.weights.registry import Entry
from ilo.weights.terminal import bring, megabytes, state

WRONG = 1  # exit code of `verify`


def show(options: argparse.Namespace) -> int:
    """List every model with its terms, whether it is downloaded, and how its file format was tested."""
    width = max(len(entry.id) for entry in registry.ENTRIES)
    for entry in registry.ENTRIES:
        print(f"{entry.id:<{width}}  {entry.title}. {state(entry)}")
        for line in filter(None, (entry.terms, entry.tested)):
            print(f"{'':<{width}}  {line}.")
    print(f"\nFetched models go to {cache.folder()} (set ILO_CACHE to change that).")
    return 0


def fetch(options: argparse.Namespace) -> int:
    entry = _entry(options.id)
    print(f"{entry.id} is ready: {bring(entry)}")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Check the hashes of the files; returns 1 if one is wrong."""
    entries = [_entry(options.id)] if options.id else [e for e in registry.ENTRIES if e.here]
    wrong = 0
    for entry in entries:
        if not entry.here:
            raise SettingsError(f"{entry.id} is not downloaded. Fetch it: python -m ilo models fetch {entry.id}")
        try:
            known = download.known_hash(entry)
            result = "matches the known hash" if known else "(recorded as its hash from now on)"
            print(f"{entry.id}: {download.verify(entry)} {result}")
        except DownloadError as error:
            print(error, file=sys.stderr)
            wrong += 1
    return WRONG if wrong else 0


def remove(options: argparse.Namespace) -> int:
    entry = _entry(options.id)
    gone = download.remove(entry)
    print(f"{entry.id}: {', '.join(path.name for path in gone)} removed." if gone else f"{entry.id} is not downloaded.")
    return 0


def check(options: argparse.Namespace) -> int:
    """Report what a file is and how it can be used; returns 1 with every reason if it cannot be used."""
    from ilo.cli import weightsfile  # torch takes seconds to import
    from ilo.weights.lazy import ReadError

    path = Path(options.file)
    if not path.is_file():
        raise SettingsError(f"There is no file {shown(options.file)}; give the path of a weights file.")
    try:
        found = weightsfile.describe(path)
    except (ReadError, OSError) as error:
        print(f"{path.name} cannot be used: {error}.")
        return WRONG
    print(f"{path.name} is {found.format}, {megabytes(found.size)}.")
    if found.role:
        print(f"It {'would be' if found.problems else 'can be used as'} {found.role}.")
    for problem in found.problems:
        print(f"It cannot be used: {problem}.")
    return WRONG if found.problems else 0


COMMANDS: dict[str | None, Callable[[argparse.Namespace], int]] = {
    None: show,
    "list": show,
    "fetch": fetch,
    "check": check,
    "verify": verify,
    "remove": remove,
}


def _entry(name: str) -> Entry:
    if name not in registry.BY_ID:
        raise SettingsError(f"There is no model {name!r}; the known models are {', '.join(registry.BY_ID)}.")
    return registry.BY_ID[name]
