"""What tensors hold is put back, whoever wrote into them."""

import pytest
import torch
from torch import nn

import eitherway as ew
from eitherway.graph import capture
from eitherway.graph.contents import contents_kept, moving_buffers
from eitherway.graph.kernels import open_attention, plain_kernels


def test_tensors_hold_what_they_held_after_a_failure_too() -> None:
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(KeyError), contents_kept([weight]):
        weight.data.fill_(7.0)
        raise KeyError
    assert torch.equal(weight, torch.ones(3)) and weight.requires_grad


def test_what_is_added_inside_is_put_back_where_memory_is_shared_too() -> None:
    whole = torch.zeros(4)
    half = whole[:2]
    with contents_kept([whole]) as kept:
        whole.add_(1)
        kept.append((half, half.clone()))
        half.add_(1)
    assert torch.equal(whole, torch.zeros(4))


def test_a_capture_puts_back_a_buffer_and_its_view_written_one_after_the_other() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(4))
            self.part = self.get_buffer("seen")[1:3]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.get_buffer("seen").add_(1)
            self.part.add_(1)
            return x * 2

    model = Counts().eval()
    capture(model, torch.ones(2))
    assert torch.equal(model.get_buffer("seen"), torch.zeros(4))


def test_buffers_that_move_are_those_of_modules_in_training_mode() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval(), nn.BatchNorm1d(2, track_running_stats=False))
    assert {id(b) for b in moving_buffers(net)} == {id(b) for b in net[0].buffers()}


@pytest.mark.parametrize("inside", [open_attention, plain_kernels])
@pytest.mark.parametrize("fast", [True, False])
def test_the_fast_path_is_off_inside_and_as_it_was_afterwards(inside, fast: bool) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        with inside():
            assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.backends.mha.get_fastpath_enabled() == fast
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("look", (capture, ew.jacobian, ew.prepare_jacobian, ew.chain_rule))
def test_a_backward_that_is_pending_goes_on(look) -> None:
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 3)
            self.register_buffer("scale", torch.full((3,), 2.0))

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input).tanh() * self.get_buffer("scale")

    model, x = Scaled().train(), torch.ones(3)
    y = model(x)
    look(model, x)
    y.sum().backward()  # torch refuses where a buffer that it needs has been written into
    assert model.weight.grad is not None
