"""The layers from k on as two fixed graphs of tensor operations, a forward and a backward pass, for a compiler.

The weights are constants of the graphs. The forward pass returns the pictures and every intermediate value that the
backward pass reads; the backward pass returns one gradient for each input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from ilo.priors.stylegan2.network import Config, Features, Generator, Noise

aten = torch.ops.aten
# Operations that only look at their input in another way: the backward pass repeats them.
VIEWS = {
    aten.alias.default,
    aten.detach.default,
    aten.expand.default,
    aten.permute.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
}


class Graphs(NamedTuple):
    """The two passes."""

    forward: GraphModule  # inputs → pictures, kept values
    backward: GraphModule  # kept values, gradient of the pictures → gradients of the inputs


def first_input(layer: int) -> int:
    """Index of the first style input and noise map used by layers ≥ `layer`: block k ≥ 1 begins with w[2k−1]."""
    return max(0, 2 * layer - 1)


def shapes(config: Config, layer: int, batch: int) -> list[tuple[int, ...]]:
    """Shapes of the inputs in their order: the w in use, the noise maps in use, then the features' x and rgb."""
    first = first_input(layer)
    found: list[tuple[int, ...]] = [(batch, config.num_ws - first, config.w_dim)]
    found += [(batch, 1, size, size) for size in config.noise_sizes[first:]]
    if layer:
        size = 4 * 2 ** (layer - 1)
        found += [(batch, config.channels[size], size, size), (batch, 3, size, size)]
    return found


def examples(config: Config, layer: int, batch: int) -> list[Tensor]:
    """Inputs of the right shapes and layouts."""
    found = [torch.ones(shape) for shape in shapes(config, layer, batch)]
    if layer:
        found[-2] = found[-2].contiguous(memory_format=torch.channels_last)
    return found


def inputs(features: Features | None, ws: Tensor, noise: Noise, layer: int) -> list[Tensor]:
    """The inputs of the graphs, laid out in memory as the graphs expect them."""
    first = first_input(layer)
    found = [ws[:, first:].contiguous(), *(n.contiguous() for n in noise[first:] if n is not None)]
    if features is not None:
        found += [features.x.contiguous(memory_format=torch.channels_last), features.rgb.contiguous()]
    return found


def trace(generator: Generator, layer: int, batch: int) -> Graphs:
    """Record what a frozen generator computes from `layer` on, for `batch` samples."""
    config = generator.config
    first, count = first_input(layer), len(config.noise_sizes)

    def picture(values: Sequence[Tensor]) -> Tensor:
        ws, *others = values
        features = Features(*others[-2:]) if layer else None
        unused = ws.new_zeros(batch, first, config.w_dim)
        noise = [None] * first + others[: count - first]
        return generator.suffix(features, torch.cat([unused, ws], 1), noise, layer)

    def joint(values: list[Tensor], gradient: Tensor) -> list[Tensor]:
        leaves = [value.detach().requires_grad_() for value in values]
        made = picture(leaves)
        return [made, *torch.autograd.grad(made, leaves, gradient)]

    values = examples(config, layer, batch)
    gradient = torch.randn(batch, 3, config.img_resolution, config.img_resolution)
    recorded = make_fx(joint)(values, gradient)

    def again(values: list[Tensor], gradient: Tensor) -> list[Tensor]:
        return recorded(values, gradient)

    # The second recording replaces operations that write into their input.
    return _split(make_fx(torch.func.functionalize(again))(values, gradient))


def _split(joint: GraphModule) -> Graphs:
    """Divide a graph (inputs, gradient) → (pictures, gradients) into its two passes."""
    nodes = list(joint.graph.nodes)
    *given, gradient = (node for node in nodes if node.op == "placeholder")
    made: Any = joint.graph.output_node().args[0]
    pictures, *gradients = made
    ahead = _ancestors([pictures])
    used = _ancestors(gradients, until=lambda node: node in ahead and _is_value(node))
    kept = [node for node in nodes if node in used and node in ahead and _is_value(node)]
    return Graphs(_extract(joint, given, [pictures, *kept]), _extract(joint, [*kept, gradient], gradients))


def _is_value(node: Node) -> bool:
    """Whether a node computes something, and is not a weight or a view of another node."""
    return node.op != "get_attr" and node.target not in VIEWS


def _ancestors(nodes: Iterable[Node], until: Callable[[Node], bool] = lambda node: False) -> set[Node]:
    """The nodes and all that they are computed from; the search ends at nodes for which `until` is true."""
    found, ahead = set(), list(nodes)
    while ahead:
        node = ahead.pop()
        if node not in found:
            found.add(node)
            ahead += [] if until(node) else node.all_input_nodes
    return found


def _extract(joint: GraphModule, given: Sequence[Node], wanted: Sequence[Node]) -> GraphModule:
    """The part of a graph that computes `wanted` from `given`."""
    graph = Graph()
    copies = {node: graph.placeholder(node.name) for node in given}
    needed = _ancestors(wanted, until=copies.__contains__)
    for node in joint.graph.nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in wanted])
    return GraphModule(joint, graph)
