"""What is not merged, each with its reason, and models that are kept as they are."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.linear.fuse.test_fuse import Wrapped, close, made
from torch import nn

from eitherway.base.errors import ModelError
from eitherway.base.style import png
from eitherway.linear.fuse import fuse_linear


def reasons(fused):
    return " ".join([fused.report.kept_whole, *(refusal.why for refusal in fused.report.refusals)])


def test_a_low_rank_bottleneck_is_kept_and_the_report_says_what_it_saves():
    model, x = made(lambda: nn.Sequential(nn.Linear(64, 4), nn.Linear(4, 64)), 8, 64)
    fused = fuse_linear(model, x)
    assert fused.report.layers_after == 2 and fused.report.effective_depth == 1
    assert "one layer would need 32,768 multiplications, two need 4,096" in reasons(fused)


def test_a_shift_before_zero_padding_is_refused_and_one_before_a_valid_convolution_is_not():
    for padding, layers in ((1, "a shift before zero padding"), (0, "")):
        model, x = made(lambda p=padding: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=p)), 2, 2, 6, 6)
        fused = fuse_linear(model, x)
        assert layers in reasons(fused) and close(fused, model, x)
        assert len(fused.report.merges) == (0 if padding else 1)


def test_the_gain_and_bias_of_a_normalisation_go_into_all_readers_or_stay():
    parts = {"norm": nn.LayerNorm(6), "a": nn.Linear(6, 6), "b": nn.Linear(6, 6)}
    model, x = made(lambda: Wrapped(lambda m, x: m.a(n := m.norm(x)) * m.b(n), **parts), 3, 6)
    fused = fuse_linear(model, x)
    assert close(fused, model, x) and fused.report.merges[0].layers == ("norm", "a", "b")
    model, x = made(lambda: Wrapped(lambda m, x: m.a(n := m.norm(x)) * m.b(n) + n.sin(), **parts), 3, 6)
    fused = fuse_linear(model, x)
    assert close(fused, model, x) and not fused.report.merges
    assert "its scale and shift stay: sin" in reasons(fused)


def test_a_branch_that_depends_on_a_value_keeps_the_model_as_it_is():
    model, x = made(
        lambda: Wrapped(lambda m, x: m.a(m.b(x)) if x.sum() > 0 else x, a=nn.Linear(4, 4), b=nn.Linear(4, 4)), 3, 4
    )
    fused = fuse_linear(model, x)
    assert "depends on a value" in fused.report.kept_whole and "kept as it is" in str(fused)
    for sign in (x.abs(), -x.abs()):
        assert torch.equal(fused.model(sign), model(sign))
    assert fused.model.a.weight is model.a.weight


def test_a_model_that_remembers_is_kept_as_it_is():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.layer(self.layer(x)) * self.calls

    model = Counting().eval()
    fused = fuse_linear(model, torch.ones(2, 3))
    assert "its answer depends on earlier calls" in fused.report.kept_whole and model.calls == 0


def test_active_dropout_stays_random_and_stands_between():
    model, x = made(
        lambda: Wrapped(lambda m, x: m.b(F.dropout(m.a(x), 0.5)), a=nn.Linear(6, 6), b=nn.Linear(6, 6)), 3, 6
    )
    fused = fuse_linear(model, x)
    assert "dropout is random" in reasons(fused) and fused.report.layers_after == 2
    assert not torch.equal(fused.model(x), fused.model(x))


def test_in_the_modes_given_statistics_of_the_batch_stay():
    model, x = made(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), 5, 4)
    fused = fuse_linear(model.train(), x, mode="given")
    assert "statistics of its own batch" in reasons(fused)
    assert torch.allclose(fused.model(x), model(x), atol=1e-6)


def test_other_batches_and_lengths_are_taken_and_what_changes_the_run_is_refused():
    def attention(m, x):
        b, t, c = x.shape
        q, k, v = m.qkv(m.norm(x)).view(b, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return m.out(y.transpose(1, 2).reshape(b, t, c))

    parts = {"qkv": nn.Linear(8, 24), "norm": nn.LayerNorm(8), "out": nn.Linear(8, 8)}
    model, x = made(lambda: Wrapped(attention, **parts), 2, 5, 8)
    fused = fuse_linear(model, x)
    for shape in ((1, 1), (7, 3), (3, 11)):
        assert close(fused, model, torch.randn(*shape, 8, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ModelError, match="along axis 2 and got shape"):
        fused.model(torch.ones(2, 5, 9))
    with pytest.raises(ModelError, match="axes and got shape"):
        fused.model(torch.ones(5, 8))


def test_a_size_that_python_branches_on_is_fixed():
    model, x = made(lambda: Wrapped(lambda m, x: m.a(x) if len(x) % 2 else m.a(x).relu(), a=nn.Linear(4, 4)), 3, 4)
    fused = fuse_linear(model, x)
    with pytest.raises(ModelError, match="of size 3 along axis 0"):
        fused.model(torch.ones(4, 4))
    assert "another size changes what runs" in " ".join(fused.report.sizes)


def test_sizes_in_steps_and_sizes_that_belong_together_are_checked():
    model, x = made(lambda: Wrapped(lambda m, x: m.a(x.view(-1, 8)).view(len(x) // 8, 2), a=nn.Linear(8, 2)), 64)
    fused = fuse_linear(model, x)
    assert close(fused, model, torch.ones(128))
    with pytest.raises(ModelError, match="in steps of 8, and got shape"):
        fused.model(torch.ones(100))
    model, x = made(lambda: Wrapped(lambda m, x, y: m.a(x) * y, a=nn.Linear(4, 4)), 3, 4)
    fused = fuse_linear(model, (x, x.clone()))
    with pytest.raises(ModelError, match="the fused model needs equal sizes of axis 0"):
        fused.model(torch.ones(3, 4), torch.ones(1, 4))


def test_another_argument_than_the_examples_is_refused():
    class Chosen(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x, twice=False):
            return self.a(self.a(x)) if twice else self.a(x)

    fused = fuse_linear(Chosen(), {"x": torch.ones(2, 3), "twice": True})
    assert fused.model(torch.ones(2, 3)).shape == (2, 3)
    with pytest.raises(ModelError, match="the fused model was made with twice=True"):
        fused.model(torch.ones(2, 3), twice=False)


def test_one_matrix_stands_for_a_stretch_of_any_axes_where_it_is_cheaper():
    model, x = made(
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 3)),
        4,
        1,
        8,
        8,
    )
    fused = fuse_linear(model, x)
    assert fused.report.layers_after == 1 and fused.report.merges[0].into == "one matrix"
    assert close(fused, model, x) and close(fused, model, x[:1])


def test_a_merge_that_loses_digits_is_undone_and_named():
    def ill():
        first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            first.weight.copy_(torch.tensor([[3e38, 0.0], [0.0, 1.0]]))
            second.weight.copy_(torch.tensor([[3e38, 0.0], [0.0, 1.0]]))
        return nn.Sequential(first, second)

    model, x = ill().eval(), torch.tensor([[1e-39, 1.0]])
    fused = fuse_linear(model, x)
    assert "undone: merged, the error was above the bound" in reasons(fused)
    assert torch.equal(fused.model(x), model(x))


def test_the_report_is_read_as_text_as_a_table_and_as_a_picture():
    model, x = made(lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), 3, 8)
    with torch.no_grad():
        model[3].weight.copy_(torch.ones(8, 8))
    fused = fuse_linear(model, x)
    text = str(fused.report)
    assert "3 layers -> 2" in text and "0 + 1" in text and "has numerical rank 1" in text
    assert fused._repr_html_().startswith("<table>") and "numerical rank" in fused._repr_html_()
    assert png(fused.report.plot().figure).startswith(b"\x89PNG")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="expected matplotlib Axes to draw on"):
        fused.report.plot("fused.png")


def test_the_fused_model_is_captured_whole_by_the_compiler():
    model, x = made(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)), 3, 4)
    fused = fuse_linear(model, x)
    torch._dynamo.reset()
    compiled = torch.compile(fused.model, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x), fused.model(x))


def test_modules_inside_a_model_that_is_kept_are_fused_by_themselves():
    def chosen(m, x):
        return m.body(x) if x.sum() > 0 else m.body[0](x[:, :4])

    body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model, x = made(lambda: Wrapped(chosen, body=body), 3, 4)
    fused = fuse_linear(model, x.abs())
    assert fused.report.parts["body"].layers_after == 2 and "inside body" in str(fused)
    for given in (x.abs(), -x.abs(), x.abs()[:1]):
        assert torch.allclose(fused.model(given), model(given), atol=1e-6)
    assert fused.model.body[1].weight is model.body[1].weight


def test_what_a_run_leaves_in_attributes_is_not_left_in_the_original():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.mask = nn.Linear(3, 3), None

        def forward(self, x):
            if self.mask is None or self.mask.shape[0] != x.shape[0]:
                self.mask = torch.ones(x.shape[0], 1) * 2
            return self.layer(self.layer(x)) * self.mask

    model = Caching().eval()
    fused = fuse_linear(model, torch.ones(2, 3))
    assert model.mask is None
    for x in (torch.ones(2, 3), torch.ones(5, 3)):
        assert torch.allclose(fused.model(x), model(x), atol=1e-6)


@pytest.mark.parametrize("start, reason", [(0, "changes its attribute seen"), (None, "two calls on one input")])
def test_a_model_that_remembers_in_attributes_is_kept_as_it_is(start, reason):
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = nn.Linear(3, 3), start

        def forward(self, x):
            y = self.layer(self.layer(x))
            if start is None:
                self.seen = y if self.seen is None else self.seen + y
                return self.seen
            self.seen += 1
            return y * self.seen

    model = Remembering().eval()
    fused = fuse_linear(model, torch.ones(2, 3))
    assert reason in fused.report.kept_whole and model.seen == start
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(fused.model(torch.ones(2, 3)), model(torch.ones(2, 3)))


def test_a_number_that_follows_a_size_is_never_multiplied_into_weights():
    def mean(m, x):
        y = F.avg_pool2d(m.b(m.a(x)), x.shape[-1]).flatten(1)
        return m.d(m.c(y) / len(x))

    parts = {"a": nn.Conv2d(2, 3, 1), "b": nn.Conv2d(3, 3, 1), "c": nn.Linear(3, 3), "d": nn.Linear(3, 2)}
    model, x = made(lambda: Wrapped(mean, **parts), 3, 2, 6, 6)
    fused = fuse_linear(model, x)
    assert "follows the sizes of the input" in reasons(fused)
    for shape in ((5, 2, 6, 6), (1, 2, 9, 9)):
        given = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        try:
            mine = fused.model(given)
        except ModelError:
            assert shape[2] != 6  # the two sides of the image change together or not at all
            continue
        assert torch.allclose(mine, model(given), atol=1e-5)


def test_a_fused_model_is_pickled_and_copied_with_its_checks():
    model, x = made(lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), 3, 4)
    fused = fuse_linear(model, x)
    for twin in (pickle.loads(pickle.dumps(fused.model)), copy.deepcopy(fused.model)):
        assert torch.equal(twin(x), fused.model(x))
        with pytest.raises(ModelError, match="of size 4 along axis 1"):
            twin(torch.ones(3, 5))


@pytest.mark.parametrize("example", [np.ones((4, 3)), [[1.0, 2.0, 3.0]], (np.ones((2, 3), dtype=np.float32),)])
def test_lists_and_numpy_arrays_are_examples_too(example):
    fused = fuse_linear(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), example)
    assert fused.report.layers_after == 1


def test_a_class_is_no_model():
    with pytest.raises(ModelError, match="fuse_linear got the class Linear; make a module of it first"):
        fuse_linear(nn.Linear, torch.ones(2, 3))
