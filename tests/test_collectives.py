"""Ranks that train together, as processes over gloo, against what one process computes.

Legend: n rows in all, B rows of a batch, b rows of it on a rank, D inputs, S student dims, T regressed dims, C classes.
"""

from typing import Any

import pytest
import torch
from processes import run_ranks
from torch import Tensor, nn

from tcs.distributed.collectives import ALONE, Collectives
from tcs.distributed.ranks import Ranks
from tcs.errors import ConfigError, ModelError, RankError
from tcs.runtime import Place

TOTALS = (1, 6, 7, 8)  # fewer rows than ranks; divisible by 2 and 3, by none, by 2
LABELLED = 3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair_loss(x_BS: Tensor) -> Tensor:
    """A loss of all pairs of rows, which weighs each pair by its places in the batch."""
    weight_BB = numbers(len(x_BS), len(x_BS), seed=9)
    return (weight_BB * (x_BS @ x_BS.T).tanh()).sum()


def batch_of(total: int) -> tuple[Tensor, ...]:
    """Tensors of `total` rows, of several shapes and dtypes; the first one has a gradient."""
    x_BS = numbers(total, 5)
    return x_BS, x_BS.float()[:, 0], numbers(total, 2, 3, 2).bfloat16(), torch.arange(total), x_BS[:, :1] > 0


def gathering(together: Collectives) -> dict[int, Any]:
    found = {}
    for total in TOTALS:
        parts = [together.part(values) for values in batch_of(total)]
        parts[0].requires_grad_()
        wholes = together.gather_rows(*parts, total=total)
        pair_loss(wholes[0]).backward()
        found[total] = ([whole.detach() for whole in wholes], parts[0].grad)
    return found


@pytest.mark.parametrize("world_size", [2, 3])
def test_rows_are_gathered_in_order_and_with_the_gradient_of_one_process(world_size: int) -> None:
    for rank, found in enumerate(run_ranks(world_size, gathering)):
        for total in TOTALS:
            wanted = batch_of(total)
            wholes, gradient_bS = found[total]
            for whole, values in zip(wholes, wanted, strict=True):
                assert whole.dtype == values.dtype
                assert torch.equal(whole, values)
            wanted[0].requires_grad_()
            pair_loss(wanted[0]).backward()
            torch.testing.assert_close(gradient_bS, wanted[0].grad[rank::world_size], rtol=0, atol=1e-12)


class Regressor(nn.Module):
    """A loss that owns a layer, and remembers the mean of what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2, dtype=torch.float64)
        self.register_buffer("mean_T", torch.zeros(2, dtype=torch.float64))

    def forward(self, z_BS: Tensor, target_BT: Tensor) -> Tensor:
        guess_BT = self.layer(z_BS)
        self.mean_T += 0.1 * (guess_BT.detach().mean(0) - self.mean_T)
        return ((guess_BT - self.mean_T - target_BT) ** 2).mean()


def built() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double(), Regressor()


@torch.no_grad()
def update(*modules: nn.Module) -> None:
    """A step of normalised gradient descent: as large for small gradients as for large ones."""
    for parameter in (parameter for module in modules for parameter in module.parameters()):
        parameter -= 0.02 * parameter.grad / parameter.grad.norm()
        parameter.grad = None


def batch_loss(z_BS: Tensor, positions_B: Tensor, regressor: nn.Module) -> Tensor:
    """Cross-entropy of the first rows, which alone have labels; all pairs; and a regression."""
    labelled = nn.functional.cross_entropy(z_BS[:LABELLED], positions_B[:LABELLED] % 4)
    return labelled + 0.1 * pair_loss(z_BS) + regressor(z_BS, numbers(12, 2, seed=3)[positions_B])


def positions_of(step: int, total: int) -> Tensor:
    return torch.randperm(12, generator=torch.Generator().manual_seed(step))[:total]


def values_of(*modules: nn.Module) -> list[Tensor]:
    return [values.detach().clone() for module in modules for values in module.state_dict().values()]


def trained_together(together: Collectives, totals: tuple[int, ...]) -> list[list[Tensor]]:
    found = []
    for total in totals:
        student, regressor = built()
        for step in range(5):
            positions_B = positions_of(step, total)
            z_bS = student(numbers(12, 6, seed=2)[together.part(positions_B)])
            (z_BS,) = together.gather_rows(z_bS, total=total)
            batch_loss(z_BS, positions_B, regressor).backward()
            together.sum_gradients(student.parameters())
            together.average_gradients(regressor.parameters())
            update(student, regressor)
        found.append(values_of(student, regressor))
    return found


def trained_alone(total: int) -> list[Tensor]:
    student, regressor = built()
    for step in range(5):
        positions_B = positions_of(step, total)
        batch_loss(student(numbers(12, 6, seed=2)[positions_B]), positions_B, regressor).backward()
        update(student, regressor)
    return values_of(student, regressor)


@pytest.mark.parametrize(("world_size", "totals"), [(2, (8, 7)), (3, (7,))])
def test_a_student_trained_together_is_that_of_one_process(world_size: int, totals: tuple[int, ...]) -> None:
    first, *others = run_ranks(world_size, trained_together, totals)
    assert all(torch.equal(a, b) for other in others for a, b in zip(flat(first), flat(other), strict=True))
    start = values_of(*built())
    for total, values in zip(totals, first, strict=True):
        for found, wanted, before in zip(values, trained_alone(total), start, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
            assert (found - before).abs().max() > 0.01


def flat(lists: list[list[Tensor]]) -> list[Tensor]:
    return [values for inner in lists for values in inner]


def gradients(together: Collectives) -> list[Any]:
    """Parameters: everywhere, on rank 1 only, nowhere, frozen, bfloat16; added up and averaged."""
    found = []
    for reduce in (together.sum_gradients, together.average_gradients):
        dtypes = [torch.float64, torch.float32, torch.float32, torch.float32, torch.bfloat16]
        parameters = [nn.Parameter(torch.zeros(2, 1, dtype=dtype)) for dtype in dtypes]
        parameters[3].requires_grad_(False)
        parameters[0].grad = torch.full((2, 1), together.rank + 1.0, dtype=torch.float64)
        if together.rank == 1:
            parameters[1].grad = torch.tensor([[6.0], [0.0]])
        parameters[4].grad = torch.full((2, 1), 1.0 if together.rank == 0 else 2.0**-8, dtype=torch.bfloat16)
        reduce(iter(parameters))
        found.append([parameter.grad for parameter in parameters])
        reduce([])
        reduce(parameters[2:4])
        assert parameters[2].grad is None
    return found


@pytest.mark.parametrize("world_size", [2, 3])
def test_gradients_are_added_up_or_averaged_and_those_of_no_rank_stay_none(world_size: int) -> None:
    for summed, averaged in run_ranks(world_size, gradients):
        for found, divisor in ((summed, 1), (averaged, world_size)):
            assert found[0].tolist() == [[sum(range(1, world_size + 1)) / divisor]] * 2
            torch.testing.assert_close(found[1], torch.tensor([[6.0], [0.0]]) / divisor)
            assert found[2] is None
            assert found[3] is None
            assert found[4].dtype == torch.bfloat16
        # 1 + 2^-8 + 2^-8 = 1 + 2^-7 in float32; bfloat16 would round to 1 on the way.
        assert summed[4].tolist() == [[1.0 if world_size == 2 else 1 + 2.0**-7]] * 2


class Holder(nn.Module):
    """A batch normalisation whose statistics are those of its rank, beside buffers that are equal on all ranks."""

    def __init__(self, rank: int, width: int = 2) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.norm.weight.data.fill_(rank)
        self.norm.running_mean.fill_(3.0 * rank)
        self.norm.num_batches_tracked.fill_(10 - rank)
        self.register_buffer("equal", numbers(500).float())
        self.register_buffer("mask", torch.tensor([-torch.inf, 0.0]), persistent=False)
        self.register_buffer("open", torch.tensor([True, rank == 0]))


def averaged(together: Collectives) -> Holder:
    module = Holder(together.rank)
    together.average_buffers(module)
    together.average_buffers(nn.Linear(2, 2))
    return module


@pytest.mark.parametrize("world_size", [2, 3])
def test_floating_buffers_are_averaged_and_others_are_those_of_rank_0(world_size: int) -> None:
    for rank, module in enumerate(run_ranks(world_size, averaged)):
        assert module.norm.running_mean.tolist() == [3.0 * (world_size - 1) / 2] * 2
        assert module.norm.num_batches_tracked.item() == 10
        assert module.open.tolist() == [True, True]
        assert module.norm.weight.tolist() == [rank] * 2  # a parameter
        assert torch.equal(module.equal, numbers(500).float())
        assert module.mask.tolist() == [-torch.inf, 0.0]


def broadcast(together: Collectives) -> tuple[Holder, Any]:
    module = Holder(together.rank)
    together.broadcast_state(module)
    together.broadcast_state(nn.Identity())
    return module, together.broadcast_json({"rank": together.rank, "of": (1, None)})


def test_the_state_and_the_words_of_rank_0_reach_all() -> None:
    wanted = Holder(0)
    for module, value in run_ranks(2, broadcast):
        assert dict(value) == {"rank": 0, "of": [1, None]}
        named = [*module.named_parameters(), *module.named_buffers()]
        for (_, found), values in zip(named, [*wanted.parameters(), *wanted.buffers()], strict=True):
            assert torch.equal(found, values)
        assert module.mask.tolist() == [-torch.inf, 0.0]


def mismatched(together: Collectives) -> None:
    together.broadcast_state(Holder(0, width=2 + together.rank))


def test_a_rank_with_another_model_is_refused() -> None:
    first, second = run_ranks(2, mismatched)
    message = (
        "rank 1 has built another model than rank 0: norm.weight (3,) torch.float32 where that has norm.weight (2,) "
        "torch.float32; use the same versions of torch and timm for all ranks."
    )
    assert isinstance(second, ModelError)
    assert str(second) == message
    assert isinstance(first, RankError)


def test_batch_statistics_are_shared_on_cuda_only() -> None:
    from timm.layers import BatchNormAct2d  # not above: every rank's process would import it

    ranks = Ranks(Place(0, 0, 2))
    with pytest.raises(
        ConfigError, match=r"^--sync-bn is set and --device is 'cpu'; torch shares .* leave --sync-bn out"
    ):
        Collectives(ranks, torch.device("cpu")).sync_batch_norm(nn.BatchNorm2d(3))
    module = nn.Sequential(nn.BatchNorm2d(3), BatchNormAct2d(3, act_layer=nn.Tanh))
    images_B3HW = numbers(4, 3, 2, 2).float()
    module(images_B3HW)
    wanted = module.eval()(images_B3HW)
    converted = Collectives(ranks, torch.device("cuda:1")).sync_batch_norm(module)
    assert [type(layer).__name__ for layer in converted] == ["SyncBatchNorm", "SyncBatchNormAct"]
    assert torch.equal(converted(images_B3HW), wanted)


def test_one_process_gets_back_what_it_gives() -> None:
    rows_B, module = torch.arange(3), nn.BatchNorm1d(2)
    module.weight.grad = torch.ones(2)
    before = values_of(module)
    assert (ALONE.rank, ALONE.world_size, ALONE.leads) == (0, 1, True)
    assert torch.equal(ALONE.part(rows_B), rows_B)
    assert ALONE.gather_rows(rows_B, rows_B, total=3)[1] is rows_B
    with pytest.raises(ConfigError, match=r"^--sync-bn is set for one process, .* leave it out"):
        ALONE.sync_batch_norm(module)
    assert ALONE.broadcast_json(rows_B) is rows_B
    assert [ALONE.any_of(True), ALONE.any_of(False)] == [True, False]
    for nothing in (ALONE.sum_gradients, ALONE.average_gradients):
        nothing(module.parameters())
    for nothing in (ALONE.broadcast_state, ALONE.average_buffers):
        nothing(module)
    ALONE.barrier()
    assert module.weight.grad.tolist() == [1, 1]
    assert module.bias.grad is None
    assert all(torch.equal(a, b) for a, b in zip(values_of(module), before, strict=True))
