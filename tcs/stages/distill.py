"""`tcs.distill`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from collections.abc import Mapping
from typing import Any, overload

from tcs.config.distill import DistillConfig
from tcs.config.distill_options import DistillOptions
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.pipeline.chain import distill as run
from tcs.pipeline.outcome import Outcome

# fmt: off

@overload
def distill(
    config: DistillConfig, /
) -> Outcome: ...
@overload
def distill(
    data: AnyPath, *, out: AnyPath, models: Several[str], test: AnyPath | None = None, test_split: str | None = None,
    val_split: float | None = None, exports: Several[str] = (), with_preprocess: bool = False,
    int8: AnyPath | None = None, max_drop: float = 1.0, compare_labels: bool = False, overwrite: bool = False,
    dry_run: bool = False, teacher: str = "", teacher_card: AnyPath | None = None,
    teacher_checkpoint: AnyPath | None = None, checkpoint_key: str | None = None, key_map: Mapping[str, str] = ...,
    teacher_kwargs: Mapping[str, Any] = ..., readouts: Several[str] = ("avg",),
    map_size: tuple[int, int] | None = None, project: Mapping[str, int] = ..., projection: str = "orthogonal",
    projection_images: int = 512, projection_from: AnyPath | None = None, views: int | None = None,
    view_scale: tuple[float, float] = (0.2, 1.0), view_ratio: tuple[float, float] = (0.75, 1.3333333333333333),
    hflip: float = 0.5, color_jitter: float = 0.0, grayscale_prob: float = 0.0, split: str | None = None,
    labels: str = "auto", label_file: AnyPath | None = None, unlabelled_data: Several[AnyPath] = (),
    data_dir: AnyPath | None = None, dataset_download: bool = False, input_key: str | None = None,
    target_key: str | None = None, class_map: AnyPath | None = None, img_size: int | None = None,
    mean: tuple[float, float, float] | None = None, std: tuple[float, float, float] | None = None,
    crop_pct: float | None = None, interpolation: str | None = None, ignore_orientation: bool = False,
    background: str = "white", pixel_rules: int | None = None, images: str | None = None, dtype: str = "float16",
    compute_dtype: str = "float32", teacher_channels_last: bool | None = None, rows_per_shard: int = 8192,
    batch_size: int = 64, workers: int = 2, max_bad: int = 0, also: Several[AnyPath] = (),
    student_readout: str | None = None, method: str | None = None, head: str | None = None, loss: str | None = None,
    pretrained: bool = False, student_checkpoint: AnyPath | None = None, freeze: Several[str] = (),
    selection: AnyPath | None = None, probe_head: str = "logistic", pool_estimator: str = "average",
    pool_teachers: str = "joined", pool_temperature: float = 1.0, class_prior: Several[str] = (),
    keep: int | None = None, shots: int | None = None, split_seed: int | None = None,
    split_file: AnyPath | None = None, unlabelled: str = "all", exclude: AnyPath | None = None,
    exclude_kind: Several[str] = (), exclude_top: int | None = None, labelled_share: float | None = None,
    mimic_view: str = "same", student_batch_size: int = 128, steps: int | None = None, epochs: int | None = None,
    warmup_phase_share: float = 0.1, held_out: int | None = None, held_out_every: int | None = None,
    student_img_size: int | None = None, crop_padding: float = 0.125, scale: tuple[float, float] | None = None,
    ratio: tuple[float, float] = (0.75, 1.3333333333333333), train_interpolation: str = "bicubic",
    decode_size: int | None = None, scaled_decoding: bool = False, student_hflip: float = 0.5, vflip: float = 0.0,
    student_color_jitter: float = 0.0, color_jitter_prob: float = 1.0, student_grayscale_prob: float = 0.0,
    reprob: float = 0.0, remode: str = "const", recount: int = 1, mixup: float = 0.0, cutmix: float = 0.0,
    mixup_prob: float = 1.0, mixup_switch_prob: float = 0.5, smoothing: float = 0.0, opt: str = "adamw",
    lr: float = 0.002, momentum: float = 0.9, weight_decay: float = 0.05, opt_eps: float | None = None,
    opt_betas: tuple[float, float] | None = None, layer_decay: float | None = None, clip_grad: float | None = 1.0,
    clip_mode: str = "norm", sched: str = "cosine", min_lr: float = 0.0, warmup_lr: float | None = None,
    warmup_share: float = 0.05, decay_steps: int | None = None, decay_milestones: Several[int] = (),
    decay_rate: float = 0.1, grad_accum_steps: int = 1, amp: bool = False, amp_dtype: str = "bfloat16",
    channels_last: bool = True, torchcompile: str | None = None, model_ema: bool = False,
    model_ema_decay: float = 0.9998, model_ema_warmup: bool = False, sync_bn: bool = False, seed: int = 42,
    device: str = "cpu", student_workers: int | None = None, resident_share: float = 0.25,
    log_interval: int | None = None, tensorboard: bool = False, checkpoint_every: int = 200,
    fit_also: Several[AnyPath] = (), fit_method: str = "pca", components: int | None = None, power: float = 0.0,
    fit_selection: str = "ridge", ceiling_shots: Several[int] = (4, 16), ceiling_test_also: Several[AnyPath] = (),
    targets_also: Several[AnyPath] = (), bits: int = 1024, sample_rows: int = 65536
) -> Outcome: ...
@takes(run, DistillConfig, DistillOptions)
def distill(*given: Any, **named: Any) -> Any:
    """Run the chain that `config` describes, or what is left of it, into the folder `out`.

    extract (and of the test images), fit and targets where the method reads them, train, eval, export: artefacts, identities and
    places are those of the single commands. What is finished is left as it is; labels that a label file has gained since are
    added to the store without a new pass. `overwrite` trains anew, and leaves the stores. With `dry_run` nothing is written.

    Returns an `Outcome`: `plan`, `rows` (one a student scored; top-1 and top-5 in percent), `seconds` by stage, `exported` (paths by
    format), `describe()` for people. Raises TcsError or CacheError, one line each, most of them before the teacher runs.

    Takes the options below, which are those of tcs.DistillConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        data (path): The images: a folder, a .tar, a .csv or .parquet table, or a timm name such as torch/cifar10.
        out (path): Folder of all that is made.
        models (tuple of str): Student: NAME[,k=v...], any timm model. Students share one stream of images.
        test (path or None): Images with labels to score the students on. Default: None.
        test_split (str or None): Part of `test` to use, as `split` is of `data`. Default: None.
        val_split (float or None): Or a share of the labelled images of `data`, as 0.2. Default: None.
        exports (tuple of str): Write the students for others too: timm, hf, onnx or torch-export. Default: ().
        with_preprocess (bool): Exported graphs take uint8 pixels and normalise them. Default: False.
        int8 (path or None): With `exports` onnx: also an 8-bit file, calibrated with these images. Default: None.
        max_drop (float): Points of top-1 that it may lose. Default: 1.0.
        compare_labels (bool): Train each student from its labels alone as well. Default: False.
        overwrite (bool): Train anew what was trained otherwise; stores stay. Default: False.
        dry_run (bool): Print the plan and what it costs, and write nothing. Default: False.
        teacher (str): timm name, hf-hub:OWNER/NAME, local-dir:FOLDER or MODULE:FUNCTION. Default: "".
        teacher_card (path or None): In place of it: a card with teacher, weights and preprocessing. Default: None.
        teacher_checkpoint (path or None): Weights: .safetensors, or .pth with tensors only. Default: None.
        checkpoint_key (str or None): Dict of that file to read. Default: found by its layout.
        key_map (mapping of str to str): Beginnings of keys to change, as {OLD: NEW}. Default: {}.
        teacher_kwargs (mapping of str to Any): For timm's constructor, as {K: V}. Default: {}.
        readouts (tuple of str): cls, avg, pool or map; of an inner layer block3.avg, stage2.map ... All come from one
            pass. Default: ("avg",).
        map_size ((int, int) or None): Average maps to this size, as (height, width). Default: as they are.
        project (mapping of str to int): Make vectors of this readout shorter, as {"map": 64}. Default: {}.
        projection (str): What `project` projects with: orthogonal, pca or autoencoder. Default: "orthogonal".
        projection_images (int): Images that pca and autoencoder are fitted on. Default: 512.
        projection_from (path or None): Project as the store does, for a test set. Default: None.
        views (int or None): Augmented views of each image. Default: the clean centre view.
        view_scale ((float, float)): Area of a view's crop, as (min, max). Default: (0.2, 1.0).
        view_ratio ((float, float)): Its width / height, as (min, max). Default: (0.75, 1.3333333333333333).
        hflip (float): Probability that a view is mirrored. Default: 0.5.
        color_jitter (float): Change of a view's colours, as 0.4. Default: 0.0.
        grayscale_prob (float): Probability that a view is grey. Default: 0.0.
        split (str or None): Part of `data` to use, as train or val: a sub-folder, or a split of a named data set.
            Default: None.
        labels (str): Where classes come from; folder demands class folders: auto, folder or none. Default: "auto".
        label_file (path or None): Classes of some images (path,class or key,...,class rows, or class key lines); all
            others have none. Default: None.
        unlabelled_data (tuple of paths): More images without labels: a folder, .tar or table. Default: ().
        data_dir (path or None): Where a table's paths start, or a named data set is kept. Default: None.
        dataset_download (bool): Let a named data set be fetched where it is missing. Default: False.
        input_key (str or None): Column of the images or paths. Default: image; path in a table.
        target_key (str or None): Column of the classes. Default: label.
        class_map (path or None): Text file: one class name a line, in the order of the labels. Default: None.
        img_size (int or None): Teacher's image size in pixels. Default: timm's for the teacher.
        mean ((float, float, float) or None): Pixel mean, as (R, G, B). Default: timm's for the teacher.
        std ((float, float, float) or None): Pixel spread, as (R, G, B). Default: timm's for the teacher.
        crop_pct (float or None): Share kept by the centre crop. Default: timm's for the teacher.
        interpolation (str or None): bilinear, bicubic ... Default: timm's for the teacher.
        ignore_orientation (bool): Show images as they are stored, not as their EXIF says. Default: False.
        background (str): What lies behind transparency: name or #rrggbb. Default: "white".
        pixel_rules (int or None): 1: as earlier releases made pixels. Default: 2.
        images (str or None): original, resized:PX or none. Default: original, up to 10 GB.
        dtype (str): Of the stored features: float16 or float32. Default: "float16".
        compute_dtype (str): Of the teacher's pass: float32, bfloat16 or float16. Default: "float32".
        teacher_channels_last (bool or None): Memory layout of the teacher's pass. Default: the faster one.
        rows_per_shard (int): Images per file of the store. Default: 8192.
        batch_size (int): Images per teacher batch. Default: 64.
        workers (int): Decoding processes; 0 decodes in this one. Default: 2.
        max_bad (int): Bad images that are left out without failing. Default: 0.
        also (tuple of paths): Another teacher's store of the same images: its features stand beside those of the store.
            Default: ().
        student_readout (str or None): Vectors that losses of features read. Default: the only ones of the store.
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
        student_batch_size (int): Rows per update, in all: over processes and accumulated parts. Default: 128.
        steps (int or None): Training steps (2000 without `steps` and `epochs`). Default: None.
        epochs (int or None): Passes over the pool (without one, over the labelled rows), instead of `steps`. Default:
            None.
        warmup_phase_share (float): Share of the steps that mimic before the labels count, in methods with such a phase.
            Default: 0.1.
        held_out (int or None): Rows to watch the student on, kept out of training; 0 for none. Default: up to 1,000
            that cost no label.
        held_out_every (int or None): Steps between looks at held-out rows. Default: a tenth of the steps.
        student_img_size (int or None): Student image size in pixels; timm's data config without it. Default: None.
        crop_padding (float): Padding of the random crop, as a share of the side. Default: 0.125.
        scale ((float, float) or None): Random resized crop instead: shares of the area, as (0.08, 1.0). Default: None.
        ratio ((float, float)): Ratios width / height of its box. Default: (0.75, 1.3333333333333333).
        train_interpolation (str): How its box is resized: bilinear or bicubic. Default: "bicubic".
        decode_size (int or None): Side of the frames that boxes are cut from. Default: `student_img_size` / 0.875; /
            0.5 for views.
        scaled_decoding (bool): Decode JPEGs far larger than a frame at 1/2, 1/4 or 1/8: faster, pixels change a little.
            Default: False.
        student_hflip (float): Probability of a horizontal flip. Default: 0.5.
        vflip (float): Probability of a vertical flip. Default: 0.0.
        student_color_jitter (float): Strength of the colour jitter. Default: 0.0.
        color_jitter_prob (float): Its probability. Default: 1.0.
        student_grayscale_prob (float): Probability of a grey image. Default: 0.0.
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
        student_workers (int or None): Threads that decode streamed images; 0: no batch ahead. Default: one a core.
        resident_share (float): Share of the free memory that decoded images may take; more are streamed. Default: 0.25.
        log_interval (int or None): Steps between rows of the log. Default: a fiftieth of the steps.
        tensorboard (bool): Write TensorBoard events too. Default: False.
        checkpoint_every (int): Steps between resumable states. Default: 200.
        fit_also (tuple of paths): Another teacher's store of the same images. Default: ().
        fit_method (str): Kind of axes: pca, random, jl, autoencoder, identity or cospress. Default: "pca".
        components (int or None): Coordinates K; min(256, D) without it. Default: None.
        power (float): 0 leaves variances as they are, 1 whitens fully. Default: 0.0.
        fit_selection (str): By the labelled rows alone, or by their labels spread over the pool, all rows of the store:
            ridge or pool. Default: "ridge".
        ceiling_shots (tuple of int): Shots of the ceiling curve. Default: (4, 16).
        ceiling_test_also (tuple of paths): Store of its images by a teacher of `fit_also`. Default: ().
        targets_also (tuple of paths): A store that tcs fit had beside the store. Default: ().
        bits (int): Hash bits: a multiple of 8, at most 8192. Default: 1024.
        sample_rows (int): Rows that the thresholds are medians of. Default: 65536.
    """
