"""The new module: what is left of a run, as plain calls of torch."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from eitherway.graph import Graph, Op, Ref
from eitherway.graph.sizes import Expression, Sizes
from eitherway.linear.fuse.calls import CALLS, METHODS, NN, Called, Rebuilt, check_alike, check_same, check_sizes
from eitherway.linear.fuse.constants import DOUBLED, Constants
from eitherway.linear.fuse.dense import Flattening
from eitherway.linear.fuse.merges import Dense, Diagonal, Form, Kernel, Transposed, ZeroPad, is_identity
from eitherway.linear.fuse.norms import bare
from eitherway.linear.fuse.regions import Regions
from eitherway.linear.fuse.runs import Leaf, Parallel, Piece, Plan, pieces_of


class Writer:
    """Writes the module of a plan.

    Args:
        doubled: everything in float64, for checking the algebra.
        copy: parameters of its own instead of the original's.
    """

    def __init__(
        self,
        graph: Graph,
        sizes: Sizes,
        constants: Constants,
        regions: Regions,
        plans: list[Plan],
        flattening: Flattening,
        *,
        signature: list[str],
        doubled: bool = False,
        copy: bool = False,
    ):
        self.graph, self.sizes, self.constants, self.regions = graph, sizes, constants, regions
        self.plans, self.flattening, self.signature = plans, flattening, signature
        self.doubled, self.copy = doubled, copy
        self.fx = fx.Graph()
        self.tensors: dict[str, Any] = {}
        self.env: dict[int, fx.Node] = {}
        self.size_nodes: dict[int, fx.Node] = {}
        self.merged: dict[str, Piece] = {}
        self.after: dict[int, list[int]] = {}
        self.made: list[tuple[Tensor, str]] = []
        self.kept_norms = {
            leaf.ops[0].index
            for plan in plans
            for piece in pieces_of(plan)
            for leaf in (piece.elements if not piece.merged else ())
            if isinstance(leaf, Leaf) and leaf.virtual
        }

    @torch.no_grad()
    def write(self) -> fx.GraphModule:
        self._inputs()
        starts = {region.last: (region, plan) for region, plan in zip(self.regions.regions, self.plans)}
        for op in self.regions.kept:
            if op.index in self.regions.split and op.index not in self.kept_norms:
                self._plain(bare(op), out=self.regions.split[op.index])
            if op.index in starts:
                self._pieces(starts[op.index][1].pieces)
            elif op.index not in self.regions.covered and op.index not in self.regions.spread:
                self._plain(op)
        self.fx.output(self._answer())
        self._in_place()
        self.fx.lint()
        module = fx.GraphModule(self.tensors, self.fx, class_name="Fused")
        return module.eval()

    # inputs and outputs --------------------------------------------------------------------------------------------

    def _inputs(self) -> None:
        args, kwargs = self.graph.arguments
        given = [*args, *kwargs.values()]
        heads = []
        for name, tree in zip(self.signature, given):
            plain = not isinstance(tree, (Ref, list, tuple, dict)) and isinstance(tree, (int, float, str, type(None)))
            heads.append(self.fx.placeholder(name, default_value=tree) if plain else self.fx.placeholder(name))
        numbers = {index: i for i, index in enumerate(self.graph.inputs)}
        for name, head, tree in zip(self.signature, heads, given):
            for path, leaf in pytree.tree_flatten_with_path(tree)[0]:
                node, title = head, name + pytree.keystr(path)
                for step in path:
                    node = self._step(node, step)
                if type(leaf) is Ref:
                    self.env[leaf.index] = node
                    self._check(node, numbers[leaf.index], title)
                elif leaf is None or isinstance(leaf, (int, float, str, torch.dtype)):
                    self.fx.call_function(check_same, (node, leaf, title))
        for i, dimension in enumerate(self.sizes.dimensions):
            for number, axis in dimension.places[1:]:
                if dimension.free:
                    first = self._size_at(*dimension.places[0])
                    names = f"axis {dimension.places[0][1]} and axis {axis} of the inputs"
                    self.fx.call_function(check_alike, (first, self._size_at(number, axis), names))
            if dimension.free and any(i in over for e in self.sizes.expressions.values() for _, over in e.terms):
                self.size_nodes[i] = self._size_at(*dimension.places[0])

    def _step(self, node: fx.Node, step: Any) -> fx.Node:
        if hasattr(step, "idx"):
            return self.fx.call_function(operator.getitem, (node, step.idx))
        if hasattr(step, "key"):
            return self.fx.call_function(operator.getitem, (node, step.key))
        return self.fx.call_function(getattr, (node, step.name))

    def _size_at(self, number: int, axis: int) -> fx.Node:
        return self.fx.call_method("size", (self.env[self.graph.inputs[number]], axis))

    def _check(self, node: fx.Node, number: int, title: str) -> None:
        fixed, ranges = [], []
        for dimension in self.sizes.dimensions:
            for i, axis in dimension.places:
                if i == number and not dimension.free:
                    fixed.append((axis, dimension.size))
                elif i == number and (dimension.step > 1 or dimension.low > 1):
                    ranges.append((axis, dimension.low, dimension.size, dimension.step))
        rank = len(self.graph.values[self.graph.inputs[number]].shape)
        self.fx.call_function(check_sizes, (node, rank, tuple(fixed), tuple(ranges), title))

    def _answer(self) -> Any:
        leaves, spec = pytree.tree_flatten(self.graph.answer)
        nodes = [self._value(leaf.index) if type(leaf) is Ref else leaf for leaf in leaves]
        plain = pytree.tree_unflatten(nodes, spec)
        if _fx_knows(plain):
            return plain
        return self._module(Rebuilt(spec), nodes)

    # values --------------------------------------------------------------------------------------------------------

    def _value(self, index: int) -> fx.Node:
        node = self.env.get(index)
        if node is not None:
            return node
        if index < len(self.graph.values) and index in self.constants:
            value = self.graph.values[index]
            if value.producer is not None and self.constants.view(index):
                self._plain(self.graph.ops[value.producer])
                return self.env[index]
            if value.kind in ("parameter", "buffer") and value.name:
                node = self._attribute(self._own(value.name, value.tensor), value.name)
            else:
                tensor = self.constants.exact(index) if self.doubled else self.constants.plain(index)
                node = self._attribute(self._cast(tensor), f"constant{index}")
            self.env[index] = node
            return node
        raise AssertionError(f"value {index} is read before it is made")

    def _own(self, name: str, tensor: Tensor | None) -> Tensor:
        assert tensor is not None
        if self.doubled:
            return self._cast(tensor.detach())
        if not self.copy:
            return tensor
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(tensor.detach().clone(), requires_grad=tensor.requires_grad)
        return tensor.detach().clone()

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.double() if self.doubled and tensor.is_floating_point() else tensor

    def _attribute(self, tensor: Tensor, name: str) -> fx.Node:
        for known, at in self.made:
            if known is tensor:
                return self.fx.get_attr(at)
        name = _free_name(name, self.tensors)
        self.tensors[name] = tensor
        self.made.append((tensor, name))
        return self.fx.get_attr(name)

    def _module(self, module: nn.Module, args: Any, kwargs: dict[str, Any] | None = None) -> fx.Node:
        name = _free_name(type(module).__name__.lower(), self.tensors)
        self.tensors[name] = module
        return self.fx.call_module(name, tuple(args), kwargs or {})

    # operations as they were ---------------------------------------------------------------------------------------

    def _plain(self, op: Op, out: int | None = None, data: dict[int, int] | None = None) -> None:
        """One operation as it stands; `data` says which value takes the place of which."""
        flat, spec = pytree.tree_flatten((op.args, op.kwargs))
        for i, leaf in enumerate(flat):
            expression = self.sizes.expressions.get((op.index, i))
            if type(leaf) is Ref:
                flat[i] = self._value((data or {}).get(leaf.index, leaf.index))
            elif expression is not None:
                flat[i] = self._integer(expression)
            elif self.doubled and isinstance(leaf, torch.dtype):
                flat[i] = DOUBLED.get(leaf, leaf)
        args, kwargs = pytree.tree_unflatten(flat, spec)
        name = op.name.removesuffix("_") if op.functional is not None else op.name
        target = op.functional or op.target
        if op.custom or not isinstance(target, torch._ops.OpOverload):
            node = self._module(Called(target, op.name), args, kwargs)
        elif name in METHODS:
            node = self.fx.call_method(METHODS[name], args, kwargs)
        else:
            node = self.fx.call_function(CALLS.get(name, target), args, kwargs)
        self._outputs(op, node, out)

    def _outputs(self, op: Op, node: fx.Node, out: int | None) -> None:
        if out is not None:
            self.env[out] = node
        elif type(op.structure) is Ref:
            self.env[op.structure.index] = node
        else:
            for path, leaf in pytree.tree_flatten_with_path(op.structure)[0]:
                if type(leaf) is Ref:
                    part = node
                    for step in path:
                        part = self._step(part, step)
                    self.env[leaf.index] = part

    def _integer(self, expression: Expression) -> Any:
        total: Any = expression.constant
        for coefficient, over in expression.terms:
            term: Any = self.size_nodes[over[0]]
            for i in over[1:]:
                term = self.fx.call_function(operator.mul, (term, self.size_nodes[i]))
            if coefficient != 1:
                term = self.fx.call_function(operator.mul, (term, coefficient))
            total = (
                term if isinstance(total, int) and total == 0 else self.fx.call_function(operator.add, (term, total))
            )
        if expression.divisor != 1:
            total = self.fx.call_function(operator.floordiv, (total, expression.divisor))
        return total

    # what was merged -----------------------------------------------------------------------------------------------

    def _pieces(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if piece.merged:
                self._merged(piece)
                continue
            element = piece.elements[0]
            if isinstance(element, Parallel):
                self._parallel(element)
            elif element.virtual:
                self._plain(element.ops[0])
            else:
                op = element.ops[-1]
                read = next(i for i in op.inputs if i not in self.constants)
                self._plain(op, data={read: element.source})

    def _parallel(self, parallel: Parallel) -> None:
        for plan in parallel.plans:
            self._pieces(plan.pieces)
        self._plain(parallel.join)

    def _merged(self, piece: Piece) -> None:
        node = self._value(piece.source)
        kind = self.graph.values[piece.out].dtype
        if piece.dense:
            lead, weight, bias = self.flattening.matrix(piece.elements)
            inner = len(self.graph.values[piece.source].shape) - lead
            if inner > 1:
                node = self.fx.call_method("flatten", (node, lead))
            name = self._name(piece)
            node = self._core(Dense(weight, bias), node, kind, name)
            after = self.graph.values[piece.out].shape[lead:]
            if len(after) != 1:
                node = self.fx.call_method("unflatten", (node, -1, tuple(after)))
            self.env[piece.out] = node
            return
        composite = piece.composite
        assert composite is not None
        for move in composite.before:
            node = self._moved(move.op, node)
        if composite.core is not None and not is_identity(composite.core):
            node = self._core(composite.core, node, kind, self._name(piece))
        for move in composite.after:
            node = self._moved(move.op, node)
        self.env[piece.out] = node

    def _moved(self, op: Op, node: fx.Node) -> fx.Node:
        mine = self.graph.ops[op.index]  # with the example's integers, which expressions stand for
        read = next(i for i in mine.inputs if i not in self.constants)
        kept, self.env[read] = self.env.get(read), node
        before = self.env.get(mine.outputs[0])
        self._plain(mine)
        made = self.env[mine.outputs[0]]
        for index, old in ((read, kept), (mine.outputs[0], before)):
            if old is None:
                self.env.pop(index, None)
            else:
                self.env[index] = old
        return made

    def _name(self, piece: Piece) -> str:
        name = f"fused{len(self.merged)}"
        while any(known.startswith(f"{name}.") for known in self.tensors):
            name += "_"
        self.merged[name] = piece
        return name

    def _core(self, form: Form, node: fx.Node, kind: torch.dtype, name: str) -> fx.Node:
        def held(tensor: Tensor | None, what: str) -> fx.Node | None:
            return None if tensor is None else self._attribute(self._rounded(tensor, kind), f"{name}.{what}")

        match form:
            case Dense():
                call: Any = torch.nn.functional.linear
                args: tuple[Any, ...] = (node, held(form.weight, "weight"), held(form.bias, "bias"))
            case Kernel():
                call = (torch.conv1d, torch.conv2d, torch.conv3d)[form.spatial - 1]
                args = (node, held(form.weight, "weight"), held(form.bias, "bias"))
                args += (form.stride, form.padding, form.dilation, form.groups)
            case Transposed():
                call = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)[form.spatial - 1]
                args = (node, held(form.weight, "weight"), held(form.bias, "bias"))
                args += (form.stride, form.padding, form.output_padding, form.groups, form.dilation)
            case ZeroPad():
                pads = [side for amount in reversed(form.amounts) for side in (amount, amount)]
                call, args = NN.pad, (node, pads)
            case Diagonal():
                scale, shift = held(form.scale, "scale"), held(form.shift, "shift")
                if scale is not None and shift is not None:
                    call, args = torch.addcmul, (shift, node, scale)
                else:
                    call, args = (torch.mul, (node, scale)) if scale is not None else (torch.add, (node, shift))
        return self.fx.call_function(call, args)

    def _rounded(self, tensor: Tensor, kind: torch.dtype) -> Tensor:
        """The one rounding; the same content is held once."""
        made = tensor.contiguous() if self.doubled else tensor.to(kind).contiguous()
        for known, name in self.made:
            same = name.startswith("fused") and known.shape == made.shape and known.dtype == made.dtype
            if same and torch.equal(known, made):
                return known
        return nn.Parameter(made, requires_grad=False)

    def _in_place(self) -> None:
        """relu may write into what a layer has just made, where nobody else reads it."""
        makers = {torch.nn.functional.linear, torch.conv1d, torch.conv2d, torch.conv3d, torch.batch_norm, torch.add}
        for node in self.fx.nodes:
            if node.op != "call_function" or node.target is not torch.relu or node.kwargs:
                continue
            read = node.args[0]
            if (
                isinstance(read, fx.Node)
                and read.op == "call_function"
                and read.target in makers
                and len(read.users) == 1
            ):
                node.target = torch.relu_


def _fx_knows(tree: Any) -> bool:
    if isinstance(tree, fx.Node) or tree is None or isinstance(tree, (int, float, bool, str)):
        return True
    if type(tree) in (list, tuple):
        return all(map(_fx_knows, tree))
    if type(tree) is dict:
        return all(map(_fx_knows, tree.values()))
    return False


def _free_name(name: str, taken: dict[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name
