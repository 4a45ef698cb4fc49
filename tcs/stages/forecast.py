"""`tcs.forecast`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.config.train import TrainConfig, TrainOptions
from tcs.training.train import forecast as run

# fmt: off

@overload
def forecast(
    config: TrainConfig, /
) -> list[dict[str, Any]]: ...
@overload
def forecast(
    store: AnyPath, *, out: AnyPath, models: Several[str], targets: AnyPath | None = None, also: Several[AnyPath] = (),
    data: AnyPath | None = None, readout: str | None = None, method: str | None = None, head: str | None = None,
    loss: str | None = None, pretrained: bool = False, student_checkpoint: AnyPath | None = None,
    freeze: Several[str] = (), selection: AnyPath | None = None, probe_head: str = "logistic",
    pool_estimator: str = "average", pool_teachers: str = "joined", pool_temperature: float = 1.0,
    class_prior: Several[str] = (), keep: int | None = None, shots: int | None = None, split_seed: int | None = None,
    split_file: AnyPath | None = None, unlabelled: str = "all", exclude: AnyPath | None = None,
    exclude_kind: Several[str] = (), exclude_top: int | None = None, labelled_share: float | None = None,
    mimic_view: str = "same", batch_size: int = 128, steps: int | None = None, epochs: int | None = None,
    warmup_phase_share: float = 0.1, held_out: int | None = None, held_out_every: int | None = None,
    img_size: int | None = None, crop_padding: float = 0.125, scale: tuple[float, float] | None = None,
    ratio: tuple[float, float] = (0.75, 1.3333333333333333), train_interpolation: str = "bicubic",
    decode_size: int | None = None, scaled_decoding: bool = False, hflip: float = 0.5, vflip: float = 0.0,
    color_jitter: float = 0.0, color_jitter_prob: float = 1.0, grayscale_prob: float = 0.0, reprob: float = 0.0,
    remode: str = "const", recount: int = 1, mixup: float = 0.0, cutmix: float = 0.0, mixup_prob: float = 1.0,
    mixup_switch_prob: float = 0.5, smoothing: float = 0.0, opt: str = "adamw", lr: float = 0.002,
    momentum: float = 0.9, weight_decay: float = 0.05, opt_eps: float | None = None,
    opt_betas: tuple[float, float] | None = None, layer_decay: float | None = None, clip_grad: float | None = 1.0,
    clip_mode: str = "norm", sched: str = "cosine", min_lr: float = 0.0, warmup_lr: float | None = None,
    warmup_share: float = 0.05, decay_steps: int | None = None, decay_milestones: Several[int] = (),
    decay_rate: float = 0.1, grad_accum_steps: int = 1, amp: bool = False, amp_dtype: str = "bfloat16",
    channels_last: bool = True, torchcompile: str | None = None, model_ema: bool = False,
    model_ema_decay: float = 0.9998, model_ema_warmup: bool = False, sync_bn: bool = False, seed: int = 42,
    device: str = "cpu", workers: int | None = None, resident_share: float = 0.25, log_interval: int | None = None,
    tensorboard: bool = False, checkpoint_every: int = 200, overwrite: bool = False, dry_run: bool = False
) -> list[dict[str, Any]]: ...
@takes(run, TrainConfig, TrainOptions)
def forecast(*given: Any, **named: Any) -> Any:
    """What `train` would take, by a few timed steps of each unfinished student; nothing is written.

    Returns a mapping a student (steps, seconds, images_per_s, data_wait, parameters, ...), and tells it with the break-even
    of the extraction. Raises the TcsError or CacheError that `train` raises before the first step.

    Takes the options below, which are those of tcs.TrainConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        out (path): Run folder; holds one folder a student.
        models (tuple of str): Student: NAME[,k=v...], any timm model. Students share one stream of images.
        targets (path or None): Targets file; without it coordinates are fitted to `store`, and there are no bits.
            Default: None.
        also (tuple of paths): Another teacher's store of the same images: its features stand beside those of `store`.
            Default: ().
        data (path or None): The images, where `store` holds none: the DATA it was made from. Default: None.
        readout (str or None): Vectors that losses of features read. Default: the only ones of `store`.
        method (str or None): A named method, from tcs methods. Default: tcs-pool; labels where no row is without a
            label.
        head (str or None): Instead of `method`: the student's head; none reads no labels: linear, tcs or none. Default:
            by the loss.
        loss (str or None): Instead of `method`: a sum such as "ce + 0.5*rkd"; a loss without a factor counts once.
            Default: None.
        pretrained (bool): Start from timm's pretrained weights. Default: False.
        student_checkpoint (path or None): Start from a state dict of the student: .safetensors, or torch.save. Default:
            None.
        freeze (tuple of str): A part of the student that is not trained: backbone, or a module such as layer1. Default:
            ().
        selection (path or None): Coordinates the classifier reads: ridge (by labels), pool (by all rows), gates, or a
            tcs fit FILE. Default: all.
        probe_head (str): The probe of the teacher whose logits kd, dkd, dist and dho-kd read: ridge, logistic or
            transductive. Default: "logistic".
        pool_estimator (str): How labels are spread over the pool: ridge, ridge-em, gaussian-em, propagation,
            mutual-information, average. Default: "average".
        pool_teachers (str): With `also`: spread labels over the pool in joined coordinates, or in each teacher's, then
            averaged. Default: "joined".
        pool_temperature (float): Of the soft labels of the loss pool; above 1 they are softer. Default: 1.0.
        class_prior (tuple of str): NAME=SHARE: which share of the pool a class has. All classes or none. Default: ().
        keep (int or None): Coordinates whose gates stay open, with `selection` gates. Default: half.
        shots (int or None): Labelled images per class; all labelled rows without it. Default: None.
        split_seed (int or None): Seed of the k-shot split; `seed` without it. Default: None.
        split_file (path or None): Labelled rows from a file of 'class key' lines. Default: None.
        unlabelled (str): Other rows whose pixels are used: all, none, a number, longtail-F or 'without [a, b]'.
            Default: "all".
        exclude (path or None): Leave out the images that this table of tcs audit names, pool included. Default: None.
        exclude_kind (tuple of str): Kind of its lines to leave out: label-error, duplicate, near-duplicate, leak,
            conflict or outlier. Default: duplicate, leak, conflict.
        exclude_top (int or None): How many label errors to leave out, with `exclude_kind` label-error. Default: None.
        labelled_share (float or None): Share of labelled rows in a batch (0.25, or 1.0 without a pool). Default: None.
        mimic_view (str): View that mimic losses see: same or clean. Default: "same".
        batch_size (int): Rows per update, in all: over processes and accumulated parts. Default: 128.
        steps (int or None): Training steps (2000 without `steps` and `epochs`). Default: None.
        epochs (int or None): Passes over the pool (without one, over the labelled rows), instead of `steps`. Default:
            None.
        warmup_phase_share (float): Share of the steps that mimic before the labels count, in methods with such a phase.
            Default: 0.1.
        held_out (int or None): Rows to watch the student on, kept out of training; 0 for none. Default: up to 1,000
            that cost no label.
        held_out_every (int or None): Steps between looks at held-out rows. Default: a tenth of the steps.
        img_size (int or None): Student image size in pixels; timm's data config without it. Default: None.
        crop_padding (float): Padding of the random crop, as a share of the side. Default: 0.125.
        scale ((float, float) or None): Random resized crop instead: shares of the area, as (0.08, 1.0). Default: None.
        ratio ((float, float)): Ratios width / height of its box. Default: (0.75, 1.3333333333333333).
        train_interpolation (str): How its box is resized: bilinear or bicubic. Default: "bicubic".
        decode_size (int or None): Side of the frames that boxes are cut from. Default: `img_size` / 0.875; / 0.5 for
            views.
        scaled_decoding (bool): Decode JPEGs far larger than a frame at 1/2, 1/4 or 1/8: faster, pixels change a little.
            Default: False.
        hflip (float): Probability of a horizontal flip. Default: 0.5.
        vflip (float): Probability of a vertical flip. Default: 0.0.
        color_jitter (float): Strength of the colour jitter. Default: 0.0.
        color_jitter_prob (float): Its probability. Default: 1.0.
        grayscale_prob (float): Probability of a grey image. Default: 0.0.
        reprob (float): Probability of random erasing. Default: 0.0.
        remode (str): What is put in place of what is erased: const, rand or pixel. Default: "const".
        recount (int): Rectangles that are erased. Default: 1.
        mixup (float): Mixup alpha, with labels only. Default: 0.0.
        cutmix (float): CutMix alpha, with labels only. Default: 0.0.
        mixup_prob (float): Probability of either. Default: 1.0.
        mixup_switch_prob (float): Probability of CutMix where both are given. Default: 0.5.
        smoothing (float): Label smoothing. Default: 0.0.
        opt (str): Optimiser, by timm's name. Default: "adamw".
        lr (float): Learning rate at the top of the schedule. Default: 0.002.
        momentum (float): Momentum, for optimisers that have one. Default: 0.9.
        weight_decay (float): Not of biases, norms and the projection. Default: 0.05.
        opt_eps (float or None): Epsilon. Default: the optimiser's own.
        opt_betas ((float, float) or None): Betas. Default: the optimiser's own.
        layer_decay (float or None): Factor of the learning rate from layer to layer, down from the head. Default: None.
        clip_grad (float or None): Largest norm (or value) of the gradient; 0 for none. Default: 1.0.
        clip_mode (str): What is clipped: norm, value or agc. Default: "norm".
        sched (str): Schedule of the learning rate, over the steps: cosine, tanh, step, multistep, poly or constant.
            Default: "cosine".
        min_lr (float): Where it ends. Default: 0.0.
        warmup_lr (float or None): Where it starts. Default: `lr` / 100.
        warmup_share (float): Share of the steps over which the rate rises. Default: 0.05.
        decay_steps (int or None): Steps between decays, with `sched` step. Default: None.
        decay_milestones (tuple of int): A step at which the rate decays, with `sched` multistep. Default: ().
        decay_rate (float): Factor of a decay; the power of `sched` poly. Default: 0.1.
        grad_accum_steps (int): Parts that a batch is computed in, to save memory. Default: 1.
        amp (bool): Forward passes in lower precision. Default: False.
        amp_dtype (str): Which one: bfloat16 or float16. Default: "bfloat16".
        channels_last (bool): Memory layout of images. Default: True.
        torchcompile (str or None): Compile students with this backend, as inductor. Default: None.
        model_ema (bool): Ship the running average of the weights. Default: False.
        model_ema_decay (float): Its decay a step. Default: 0.9998.
        model_ema_warmup (bool): Let the decay rise from 0. Default: False.
        sync_bn (bool): Batch statistics over all processes (CUDA). Default: False.
        seed (int): Everything random is a function of it. Default: 42.
        device (str): cpu, cuda, cuda:1 ... Default: "cpu".
        workers (int or None): Threads that decode streamed images; 0: no batch ahead. Default: one a core.
        resident_share (float): Share of the free memory that decoded images may take; more are streamed. Default: 0.25.
        log_interval (int or None): Steps between rows of the log. Default: a fiftieth of the steps.
        tensorboard (bool): Write TensorBoard events too. Default: False.
        checkpoint_every (int): Steps between resumable states. Default: 200.
        overwrite (bool): Delete what an earlier run left in the students' folders. Default: False.
        dry_run (bool): Time a few steps, tell what the run would take, write nothing. Default: False.
    """
