"""Hostile weights files. Each must be refused with one sentence, quickly and in little memory, without executing code.

`BOMBS` has a function that writes each file. Each module here is a family of attacks.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from tests import published as files
from tests.hostile import amounts, calls, classifiers, generators, opcodes, parts, safetensors_files, structure, zips
from tests.hostile.parts import Table, Write

FAMILIES: dict[str, tuple[Table, tuple[str, ...]]] = {
    "calls": (calls.table(), calls.HARMLESS),
    "opcodes": (opcodes.table(), opcodes.HARMLESS),
    "structure": (structure.table(), structure.HARMLESS),
    "amounts": (amounts.table(), amounts.HARMLESS),
    "generators": (generators.table(), generators.HARMLESS),
    "zips": (zips.table(), zips.HARMLESS),
    "safetensors": (safetensors_files.table(), safetensors_files.HARMLESS),
    "classifiers": (classifiers.table(), classifiers.HARMLESS),
    "resnets": (classifiers.checkpoints(), ()),
}
# File name (its suffix, and "classifier" in it, select the reader) → function that writes the file.
BOMBS: dict[str, Write] = {
    f"{family}-{name}": write for family, (table, _) in FAMILIES.items() for name, write in table.items()
}
# Files that may also be loaded, because they do no harm; then the model must be usable.
HARMLESS = frozenset(
    f"{family}-{name}"
    for family, (table, patterns) in FAMILIES.items()
    for name in table
    if any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)
)
# The same writers without attacks: if these files did not load, the other tests would prove nothing.
GENUINE: dict[str, Write] = {
    "official.pkl": lambda path: files.official(path, parts.small()),
    **{f"official-{n}.pkl": parts.official(lambda content: None, protocol=n) for n in (2, 3, 4, 5)},
    "rosinality.pt": lambda path: files.rosinality(path, parts.small()),
    "rosinality-old.pt": lambda path: files.rosinality(path, parts.small(), zipped=False),
    "rosinality-rewritten.pt": parts.rosinality(lambda content: None),
    "rosinality-old-rewritten.pt": parts.rosinality(lambda content: None, zipped=False),
    "rosinality-zipped.pt": zips.genuine(),
    "generator.safetensors": parts.generator_file(),
    "classifier.safetensors": classifiers.own(),
}
