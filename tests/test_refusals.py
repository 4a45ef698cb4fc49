"""Options that cannot work, or would do nothing, are refused by name before anything is trained."""

import pathlib
from typing import Any

import click
import pytest
import timm.optim
from artefacts import make_store, make_targets
from click.testing import CliRunner

from tcs.cli.train import command
from tcs.config.augment import AugmentConfig
from tcs.config.optimiser import OptimiserConfig
from tcs.config.train import TrainConfig
from tcs.criteria.losses import LOSSES
from tcs.errors import ConfigError
from tcs.methods.named import resolve_method
from tcs.training.checks import check_compiler, check_optimiser, check_options
from tcs.training.feed import frame_size
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
BASE: dict[str, Any] = {"store": "s", "out": "o", "models": (STUDENT,)}
IDLE: list[tuple[dict[str, Any], str]] = [
    ({"amp_dtype": "float16"}, "--amp-dtype has no effect without --amp"),
    ({"model_ema_decay": 0.9}, "--model-ema-decay has no effect without --model-ema"),
    ({"model_ema_warmup": True}, "--model-ema-warmup has no effect without --model-ema"),
    ({"clip_mode": "agc", "clip_grad": 0.0}, "--clip-mode has no effect without a --clip-grad above 0"),
    ({"warmup_lr": 1e-4, "warmup_share": 0.0}, "--warmup-lr has no effect without a --warmup-share above 0"),
    ({"decay_rate": 0.5}, r"--decay-rate has no effect without a --sched that decays \(step, multistep, poly\)"),
    ({"sched": "constant", "min_lr": 1e-4}, r"--min-lr has no effect without a --sched that ends there \(cosine"),
    ({"crop_padding": 0.2, "scale": (0.3, 1.0)}, "--crop-padding has no effect without images that are padded"),
    ({"ratio": (0.5, 2.0)}, "--ratio has no effect without a random resized crop; add --scale 0.08 1.0"),
    ({"train_interpolation": "bilinear"}, "--train-interpolation has no effect without a random resized crop"),
    ({"color_jitter_prob": 0.5}, "--color-jitter-prob has no effect without a colour jitter"),
    ({"recount": 2}, "--recount has no effect without random erasing"),
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"train_interpolation": "nearest"}, "--train-interpolation is 'nearest'; it must be one of bilinear, bicubic"),
    ({"sched": "cosin"}, "--sched is 'cosin'; .* Did you mean cosine"),
    ({"sched": "step"}, "--decay-steps is None and --sched 'step'; give a number of 1 or more"),
    ({"decay_steps": 4}, "--decay-steps is 4 and --sched 'cosine'"),
    ({"sched": "multistep"}, r"--decay-milestones is \[\] and --sched 'multistep'; give steps of 1 or more"),
    ({"decay_milestones": (3,)}, r"--decay-milestones is \[3\] and --sched 'cosine'"),
    ({"opt_betas": (0.9, 1.0)}, r"--opt-betas is \(0.9, 1.0\); both must lie from 0 to below 1"),
    ({"opt_eps": 0.0}, "--opt-eps is 0.0; it must be above 0"),
    ({"momentum": 1.0}, "--momentum is 1.0; it must lie from 0 to below 1"),
    ({"layer_decay": 0.0}, "--layer-decay is 0.0; it must lie above 0"),
    ({"clip_grad": -1.0}, "--clip-grad is -1.0; it must be above 0, or 0 for no clipping"),
    ({"warmup_share": 1.0}, "--warmup-share is 1.0; it must lie from 0 to below 1"),
    ({"min_lr": 1.0}, r"--min-lr is 1.0; it must lie between 0 and --lr \(0.002\)"),
    ({"model_ema": True, "model_ema_decay": 1.0}, "--model-ema-decay is 1.0; it must lie between 0 and 1"),
    ({"freeze": ("",)}, "--freeze is empty; name a part of the student"),
    ({"grad_accum_steps": 256}, r"--grad-accum-steps is 256, more than --batch-size \(128\)"),
]


@pytest.mark.parametrize(("options", "message"), [*IDLE, *WRONG])
def test_an_option_that_does_nothing_or_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_options(BASE | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opt": "adamm"}, "--opt is 'adamm', which timm does not have. Did you mean"),
        ({"opt": "ahead_adamw"}, "--opt is 'ahead_adamw', which timm does not have"),
        ({"opt": "adahessian"}, "--opt adahessian needs second derivatives"),
        ({"opt": "sgd", "opt_betas": (0.9, 0.99)}, "--opt-betas has no effect with --opt sgd; leave it out"),
        ({"opt": "sgd", "opt_eps": 1e-5}, "--opt-eps has no effect with --opt sgd; leave it out"),
        ({"opt": "adamw", "momentum": 0.5}, "--momentum has no effect with --opt adamw; leave it out"),
        ({"opt": "lookahead_adamw", "momentum": 0.5}, "--momentum has no effect with --opt lookahead_adamw"),
        ({"opt": "adan", "opt_betas": (0.9, 0.99)}, "--opt adan has 3 betas; leave it out"),
        ({"opt": "sgd", "momentum": 0.0}, "--opt sgd cannot be made with these options: Nesterov momentum requires"),
    ],
)
def test_an_optimiser_that_cannot_be_or_does_not_read_an_option_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_optimiser(OptimiserConfig(**options))


@pytest.mark.filterwarnings("ignore")  # some advise against themselves
def test_whatever_timm_makes_is_taken() -> None:
    taken, refused = [], {}
    for name in timm.optim.list_optimizers():
        try:
            check_optimiser(OptimiserConfig(opt=name))
            check_optimiser(OptimiserConfig(opt=f"Lookahead_{name}"))
            taken.append(name)
        except ConfigError as error:
            refused[name] = str(error)
    assert len(taken) > 50
    assert not any("\n" in reason for reason in refused.values())
    assert all(name.startswith(("bnb", "fused")) or name == "adahessian" for name in refused)


def test_a_compiler_that_is_none_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--torchcompile is 'inducter', .* Did you mean inductor\? It has .*inductor"
    ):
        check_compiler("inducter")
    for backend in (None, "inductor", "eager", "aot_eager"):
        check_compiler(backend)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ce"])
def test_images_are_mixed_only_where_no_cached_target_sees_them(name: str) -> None:
    method = resolve_method(None, "tcs", f"ce + {name}")
    reason = f"--mixup and --cutmix mix images, and what '{name}' reads is cached for whole images"
    for view in ("same", "clean"):
        for option in ({"mixup": 0.2}, {"cutmix": 1.0}):
            config = TrainConfig.from_options(BASE | {"mimic_view": view} | option)
            if view == "same" or LOSSES[name].rows == "labelled":
                with pytest.raises(ConfigError, match=reason):
                    check_options(config, method)
            else:
                check_options(config, method)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ce"])
def test_accumulation_is_refused_where_rows_are_compared(name: str) -> None:
    method, config = (
        resolve_method(None, "tcs", f"ce + {name}"),
        TrainConfig.from_options(BASE | {"grad_accum_steps": 2}),
    )
    if LOSSES[name].across_rows:
        with pytest.raises(ConfigError, match=f"--grad-accum-steps is 2, and '{name}' compares the rows of a batch"):
            check_options(config, method)
    else:
        check_options(config, method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup_prob": 0.5}, "--mixup-prob has no effect without --mixup or --cutmix"),
        ({"mixup": 0.2, "mixup_switch_prob": 0.1}, "--mixup-switch-prob has no effect without both"),
        ({"smoothing": 0.1}, "--smoothing is 0.1, and no loss of the run is ce, which it smooths"),
        (
            {"mixup": 0.1, "mimic_view": "clean"},
            "--mixup and --cutmix mix the rows of ce, and no loss of the run is ce",
        ),
    ],
)
def test_changed_labels_need_the_loss_that_reads_them(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_options(TrainConfig.from_options(BASE | options), resolve_method("tcs-probe", None, None))


def test_options_of_images_reach_their_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[TrainConfig] = []
    monkeypatch.setattr("tcs.training.train.train", lambda config: configs.append(config) or [])
    line = "s --out o --model m --scale 0.3 0.9 --ratio 0.5 2 --train-interpolation bilinear --hflip 0.1 --vflip 0.2 --reprob 0.4"
    line += (
        " --color-jitter 0.3 --color-jitter-prob 0.8 --grayscale-prob 0.2 --remode pixel --recount 3 --decode-size 40"
    )
    result = CliRunner().invoke(command, line.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert configs[0].augment == AugmentConfig(
        scale=(0.3, 0.9),
        ratio=(0.5, 2.0),
        train_interpolation="bilinear",
        decode_size=40,
        hflip=0.1,
        vflip=0.2,
        color_jitter=0.3,
        color_jitter_prob=0.8,
        grayscale_prob=0.2,
        reprob=0.4,
        remode="pixel",
        recount=3,
    )
    assert frame_size(configs[0].augment, 32) == 40
    assert [AugmentConfig(crop_padding=0.25).padding(size) for size in (32, 30)] == [8, 8]  # 7.5, to the even number
    assert [frame_size(AugmentConfig(**options), 28) for options in ({}, {"scale": (0.3, 1.0)})] == [28, 32]


def test_the_average_is_what_is_shipped_and_what_is_refused_leaves_no_folder(tmp_path: pathlib.Path) -> None:
    import safetensors.torch
    import timm
    import torch

    make_store(tmp_path / "train.store")
    make_targets(tmp_path)
    given = BASE | {
        "store": str(tmp_path / "train.store"),
        "out": str(tmp_path / "run"),
        "targets": str(tmp_path / "pca.h5"),
    }
    given |= {"method": "labels", "shots": 4, "steps": 6, "batch_size": 12, "img_size": 16}
    config = TrainConfig.from_options(given | {"model_ema": True, "model_ema_decay": 0.5})
    with pytest.raises(ConfigError, match="--torchcompile is 'none'"):
        train(TrainConfig.from_options(config.options() | {"torchcompile": "none"}))
    assert not (tmp_path / "run").exists()
    (folder,) = train(config)
    names = ("last", "averaged", "folded")
    last, averaged, folded = (safetensors.torch.load_file(folder / f"{name}.safetensors") for name in names)
    assert not torch.equal(last["classifier.weight"], averaged["classifier.weight"])
    assert torch.equal(folded["conv1.weight"], averaged["backbone.conv1.weight"])
    assert torch.equal(folded["fc.weight"], averaged["classifier.weight"])
    timm.create_model("resnet18", layers=(1, 1, 1, 1), channels=(4, 4, 8, 8), num_classes=3).load_state_dict(folded)


def test_the_help_is_grouped_fits_80_columns_and_leaves_no_option_out() -> None:
    context = command.make_context("train", [], resilient_parsing=True, terminal_width=80)
    text = command.get_help(context)
    assert max(map(len, text.splitlines())) <= 80
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert len(headings) == 6
    assert headings[-1] == "Other:"
    options = [parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert all(option.opts[-1] in text for option in options)
