"""Official pickles with more modules, tensors, names and numbers than any network has, or unprintable names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.hostile import parts
from tests.hostile.parts import NASTY, Table, blob, get, mapping, number, put, raw_program, text
from tests.hostile.structure import module_of, storage_file

# A module of the small generator that has entries of each kind.
HOLDERS = {"_parameters": "synthesis.b8.conv1", "_buffers": "synthesis.b8.conv1", "_modules": "synthesis"}


def table() -> Table:
    """More modules, tensors, names and numbers than any network has, and unprintable names."""
    empty = module_of()
    storage = blob(storage_file(250_000)) + put(1) + b"0"  # 1 MB
    one = parts.LOAD + get(1) + b"\x85R" + put(2) + b"0"

    def view(shape: tuple[int, ...], strides: tuple[int, ...] = (1,)) -> bytes:
        return parts.tensor(get(2), number(0), parts.numbers(*shape), parts.numbers(*strides))

    made: Table = {}

    def names(count: int, form: str, value: bytes) -> Callable[[], bytes]:
        return lambda: value + put(3) + b"0}(" + b"".join(text(form.format(i)) + get(3) for i in range(count)) + b"u"

    block = module_of(mapping([(text("conv1"), module_of(parameters=mapping([(text("weight"), view((4,)))])))]))
    made["150000-blocks.pkl"] = raw_program(
        storage,
        one,
        lambda: parts.generator_of(mapping([(text("synthesis"), module_of(names(150_000, "b{}", block)()))])),
    )
    made["150000-empty-blocks.pkl"] = raw_program(
        lambda: parts.generator_of(mapping([(text("synthesis"), module_of(names(150_000, "b{}", empty)()))]))
    )
    layer = module_of(parameters=mapping([(text("weight"), view((4, 4), (4, 1)))]))
    made["100000-layers-of-a-mapping.pkl"] = raw_program(
        storage,
        one,
        lambda: parts.generator_of(mapping([(text("mapping"), module_of(names(100_000, "fc{}", layer)()))])),
    )
    made["399-aliases-of-1MB.pkl"] = raw_program(
        storage, one, lambda: parts.generator_of(parameters=names(399, "p{}", view((250_000,)))())
    )
    made["399-views-of-1MB.pkl"] = raw_program(
        storage,
        one,
        lambda: parts.generator_of(parameters=mapping((text(f"p{i}"), view((250_000,))) for i in range(399))),
    )
    square = module_of(parameters=mapping([(text("weight"), view((500, 500), (500, 1)))]))
    layers = mapping((text(f"fc{i}"), square) for i in range(400))
    made["aliases-in-a-genuine-place.pkl"] = raw_program(
        storage, one, lambda: parts.generator_of(mapping([(text("mapping"), module_of(layers))]))
    )
    for kind, shape, strides in (
        ("row", (500, 500), (0, 1)),
        ("all", (10**6, 10**6), (0, 0)),
        ("huge", (2**39, 2**39), (0, 0)),
    ):
        made[f"expanded-{kind}.pkl"] = raw_program(
            storage, one, parts.generator_of(parameters=mapping([(text("w"), view(shape, strides))]))
        )
    made["30MB-of-bytes-as-a-parameter.pkl"] = _wide(torch.uint8, 30_000_000)
    made["30MB-of-bools-as-a-parameter.pkl"] = _wide(torch.bool, 30_000_000)
    made["30MB-of-chars-as-a-parameter.pkl"] = _wide(torch.int8, 30_000_000)
    made["doubles-as-parameters.pkl"] = _wide(torch.float64, 4_000_000)
    for kind, nasty in NASTY.items():
        for place in ("_parameters", "_buffers", "_modules"):
            made[f"{place[1:]}-called-{kind}.pkl"] = parts.official(
                lambda content, place=place, nasty=nasty: _renamed(parts.inner(content, HOLDERS[place])[place], nasty)
            )
        made[f"class-called-{kind}.pkl"] = parts.official(
            lambda content, nasty=nasty: parts.rewritten(content, class_name=nasty)
        )
        made[f"option-called-{kind}.pkl"] = parts.official(
            lambda content, nasty=nasty: parts.inner(content)["_init_kwargs"].__setitem__(nasty, nasty)
        )
    for kind, form in (
        ("unicode", "b٨"),
        ("zeros", "b008"),
        ("sign", "b+8"),
        ("underscore", "b1_6"),
        ("huge", "b" + "9" * 5000),
    ):
        made[f"block-number-{kind}.pkl"] = parts.official(
            lambda content, form=form: _moved(parts.inner(content, "synthesis")["_modules"], "b8", form)
        )
    return made


def _wide(kind: torch.dtype, count: int) -> parts.Write:
    """Replace a tensor that is read by one with a dtype smaller than float32."""
    return parts.official(
        lambda content: parts.inner(content, "mapping")["_buffers"].__setitem__("w_avg", torch.zeros(count, dtype=kind))
    )


def _renamed(entries: dict[str, Any], name: str) -> None:
    entries[name] = entries[next(iter(entries))]


def _moved(entries: dict[str, Any], old: str, new: str) -> None:
    entries[new] = entries.pop(old)


HARMLESS = ("option-called-*.pkl",)  # an option that is not used
