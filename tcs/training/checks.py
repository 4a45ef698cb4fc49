"""Options of a run that timm, torch or a loss of the run cannot follow: refused by name before anything is trained."""

from collections.abc import Sequence

import cache
from tcs.config.optimiser import OptimiserConfig
from tcs.config.pool import TRANSDUCTIVE, PoolConfig
from tcs.config.train import SELECT_POOL, TrainConfig
from tcs.criteria.losses import find_loss
from tcs.criteria.terms import parse_loss
from tcs.errors import ConfigError, DataError, did_you_mean, first_line, option_name, require
from tcs.methods.named import Method
from tcs.students.backbone import StudentSpec
from tcs.training.feed import mixing_of

LOOKAHEAD = "lookahead"  # timm's one prefix of optimisers, as in lookahead_adamw


def check_options(config: TrainConfig, method: Method) -> None:
    """Raise ConfigError for an option that this machine's timm or torch lacks, or that a loss of `method` cannot follow."""
    check_optimiser(config.optimiser)
    check_compiler(config.optimiser.torchcompile)
    mixing_of(config.augment)
    terms = [term.name for text in (method.loss, method.warm_up) if text for term in parse_loss(text)]
    for name in terms:
        _check_loss(name, config)
    _check_labels_changed(terms, config)
    _check_pool(config, method)


def _check_pool(config: TrainConfig, method: Method) -> None:
    """Refuse options of spread labels and of the teacher's probe where no loss of the run reads them."""
    pool, defaults = config.pool, PoolConfig()
    require(
        config.selection != SELECT_POOL or method.head == "tcs",
        f"--selection is {SELECT_POOL}, which picks coordinates for a classifier of coordinates, and head '{method.head}' has none; "
        "leave it out, or use --head tcs.",
    )
    spreads = "pool" in method.needs or pool.probe_head == TRANSDUCTIVE or config.selection == SELECT_POOL
    for name, is_read, readers in (
        ("probe_head", "probe" in method.needs, "kd, dkd, dist, dho-kd and lshl2_s read"),
        ("pool_estimator", spreads, "the loss 'pool', --probe-head transductive and --selection pool read"),
        ("class_prior", spreads, "the loss 'pool', --probe-head transductive and --selection pool read"),
        ("pool_teachers", "pool" in method.needs, "the loss 'pool' reads"),
        ("pool_temperature", "pool" in method.needs, "the loss 'pool' reads"),
    ):
        value = getattr(pool, name)
        require(
            is_read or value == getattr(defaults, name),
            f"{option_name(name)} is {' '.join(value) if isinstance(value, tuple) else value}, which {readers}, and loss "
            f"'{method.loss}' does not; leave it out.",
        )


def check_optimiser(config: OptimiserConfig) -> None:
    """Raise ConfigError for an optimiser that timm does not have or this trainer cannot drive, or an option it does not read."""
    import timm.optim

    prefix, _, name = config.opt.lower().rpartition("_")
    known = timm.optim.list_optimizers()
    if name not in known or prefix not in ("", LOOKAHEAD):
        raise ConfigError(
            f"--opt is '{config.opt}', which timm does not have.{did_you_mean(config.opt, known)} adamw, sgd and lamb work."
        )
    info = timm.optim.get_optimizer_info(name)
    if info.second_order:
        raise ConfigError(f"--opt {config.opt} needs second derivatives, which this trainer does not make; use adamw.")
    defaults = OptimiserConfig()
    for option, is_read in (("opt_eps", info.has_eps), ("opt_betas", info.has_betas), ("momentum", info.has_momentum)):
        if not is_read and getattr(config, option) != getattr(defaults, option):
            raise ConfigError(f"{option_name(option)} has no effect with --opt {config.opt}; leave it out.")
    if config.opt_betas is not None and info.num_betas != len(config.opt_betas):
        raise ConfigError(
            f"--opt-betas is {config.opt_betas}, and --opt {config.opt} has {info.num_betas} betas; leave it out."
        )
    _try_optimiser(config)


def _try_optimiser(config: OptimiserConfig) -> None:
    """Make the optimiser for a parameter that is nobody's: some need a package, a GPU, or a momentum above 0."""
    import torch

    from tcs.training.optimisation import make_optimiser

    try:
        make_optimiser(
            [{"params": [torch.nn.Parameter(torch.zeros(2, 2))], "weight_decay": config.weight_decay}], config
        )
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        raise ConfigError(
            f"--opt {config.opt} cannot be made with these options: {reason}; change them, or use --opt adamw."
        ) from error


def check_compiler(backend: str | None) -> None:
    """Raise ConfigError for a backend that torch.compile does not have."""
    if backend is None:
        return
    import torch

    known = torch.compiler.list_backends(exclude_tags=())
    require(
        backend in known,
        f"--torchcompile is '{backend}', which this torch does not have.{did_you_mean(backend, known)} It has "
        f"{', '.join(sorted(torch.compiler.list_backends()))}.",
    )


def _check_loss(name: str, config: TrainConfig) -> None:
    """Refuse options that one loss of the run cannot follow, with the reason."""
    sees_mixed = find_loss(name).rows == "labelled" or config.mimic_view == "same"
    if config.augment.mixes and name != "ce" and sees_mixed:
        raise ConfigError(
            f"--mixup and --cutmix mix images, and what '{name}' reads is cached for whole images; leave them out, or "
            "use --mimic-view clean with a loss of the pool."
        )
    if config.optimiser.grad_accum_steps > 1 and find_loss(name).across_rows:
        raise ConfigError(
            f"--grad-accum-steps is {config.optimiser.grad_accum_steps}, and '{name}' compares the rows of a batch, which in parts "
            "would be another loss; use --grad-accum-steps 1 with a smaller --batch-size or --amp."
        )


def _check_labels_changed(terms: list[str], config: TrainConfig) -> None:
    """Refuse what changes the labels of ce where no loss of the run is ce."""
    if "ce" in terms:
        return
    require(
        config.augment.smoothing == 0,
        f"--smoothing is {config.augment.smoothing}, and no loss of the run is ce, which it smooths; leave it out.",
    )
    require(
        not config.augment.mixes,
        "--mixup and --cutmix mix the rows of ce, and no loss of the run is ce; leave them out.",
    )


def check_labels(method: Method, config: TrainConfig, store: cache.Store, name: str) -> None:
    """Refuse labels where there are none, and options that pick or weigh labels where none is read."""
    if method.reads_labels:
        if not store.is_labelled:
            raise DataError(
                f"{name} reads labels, and none of the {len(store)} rows of {store.path} has a label; extract with one folder "
                "a class, or train without labels: --method tcs-mimic, or a --loss that trains no classifier."
            )
        return
    for option in ("shots", "split_file", "labelled_share", "selection"):
        if getattr(config, option) is not None:
            raise ConfigError(
                f"{option_name(option)} is {getattr(config, option)}, and {name} trains no classifier and reads no label; "
                "leave it out, or add ce to the loss."
            )
    if not config.asks_for_pool:
        raise ConfigError(
            f"--unlabelled is {config.unlabelled}, and {name} reads unlabelled rows only; use all, or a number."
        )


def check_names(specs: Sequence[StudentSpec]) -> None:
    """Refuse students that would share a folder."""
    taken: dict[str, StudentSpec] = {}
    for spec in specs:
        first = taken.setdefault(spec.folder, spec)
        if first is spec:
            continue
        if first.text == spec.text:
            raise ConfigError(f"--model names one student twice ('{spec.text}'); give each student once.")
        raise ConfigError(
            f"--model '{first.text}' and '{spec.text}' would share the folder '{spec.folder}'; train one of them in another --out."
        )
