# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a folder of images to a student, with pictures
#
# Handwritten digits, a small teacher that has never seen a label, four labels a class, and a student that learns without the
# teacher. It takes a minute on two cores, and no network. With your own images only the first two cells change: a folder with one
# sub-folder a class, and the teacher that you name.
#
# It runs as a script, with matplotlib (the extra `plots`): `python first-student.py`. For Jupyter, `pip install jupytext` and
# `jupytext --to notebook first-student.py` make `first-student.ipynb` of it; VS Code and others open the cells as they are.

# %%
import importlib.resources
import io
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import cache
import tcs
from tcs.demonstration.digits import write_digits

work = pathlib.Path("first-student")
work.mkdir(exist_ok=True)
images = write_digits(work / "digits")  # digits/train/<digit>/*.png and digits/test/<digit>/*.png
print(sorted(path.name for path in (images / "train").iterdir()))

# %% [markdown]
# ## The teacher, once
#
# `tcs.extract` runs it over every image and keeps what it says, the *features*, in a store, with the images. A finished store is left
# as it is: run the cell again and nothing happens. The embedded teacher comes with a card that says how it wants its images; for a
# published one it is `teacher="vit_small_patch14_dinov2.lvd142m"` in its place.

# %%
card = importlib.resources.files("tcs") / "embedded" / "digits_teacher.json"
for part in ("train", "test"):
    tcs.extract(str(images / part), out=str(work / f"{part}.store"), teacher_card=str(card), workers=0)

store = cache.open(work / "train.store")
features_ND = store.features()[:].astype(np.float32)
print(len(store), "images,", features_ND.shape[1], "features each,", len(store.classes), "classes")

# %% [markdown]
# ## What the teacher sees: neighbours
#
# Two images are alike to the teacher where their features point the same way. On the left an image, beside it its nearest ones. Where
# these are of its class, few labels are enough; where they are not, no student can learn it from this teacher.


# %%
def picture(row: int) -> Image.Image:
    """The image of a row, out of the store."""
    return Image.open(io.BytesIO(store.image_bytes(row)))


def show(axis: plt.Axes, image: Image.Image, title: str) -> None:
    """An image without ticks."""
    axis.imshow(image, cmap="gray")
    axis.set_title(title, fontsize=8)
    axis.axis("off")


centred_ND = features_ND - features_ND.mean(axis=0)
directions_ND = centred_ND / np.linalg.norm(centred_ND, axis=1, keepdims=True)
cosines_NN = directions_ND @ directions_ND.T
nearest_NN = np.argsort(-cosines_NN, axis=1, kind="stable")[:, 1:]  # without the image itself

examples = [int(np.flatnonzero(store.labels_N == label)[0]) for label in range(len(store.classes))]
figure, axes = plt.subplots(len(examples), 7, figsize=(7, 11))
for line, row in zip(axes, examples, strict=True):
    show(line[0], picture(row), f"a {store.classes[store.labels_N[row]]}")
    for axis, other in zip(line[1:], nearest_NN[row], strict=False):
        show(axis, picture(int(other)), f"{store.classes[store.labels_N[other]]}  {cosines_NN[row, other]:.2f}")
figure.savefig(work / "neighbours.png", dpi=120, bbox_inches="tight")

share = np.mean(store.labels_N[nearest_NN[:, 0]] == store.labels_N)
print(f"The nearest image is of the same class for {share:.1%} of the images.")

# %% [markdown]
# ## Coordinates
#
# Most of what the teacher says lies along a few axes. `tcs.fit` finds them and says how much of a few-label probe they keep; the student
# will be taught these coordinates and not all features. Two of them make a map; at the ends of each stand the images that it tells
# apart.

# %%
system = tcs.fit(str(work / "train.store"), out=str(work / "coordinates.safetensors"), components=32)
z_NK = system.transform(features_ND)
print(system.components, "coordinates of", system.dims, "features")

figure, axis = plt.subplots(figsize=(7, 6))
colours = plt.get_cmap("tab10")(store.labels_N)
axis.scatter(z_NK[:, 0], z_NK[:, 1], c=colours, s=6)
for label, name in enumerate(store.classes):
    axis.text(*z_NK[store.labels_N == label, :2].mean(axis=0), name, fontsize=16, weight="bold")
axis.set_xlabel("coordinate 1")
axis.set_ylabel("coordinate 2")
figure.savefig(work / "map.png", dpi=120, bbox_inches="tight")

figure, axes = plt.subplots(4, 10, figsize=(10, 4.6))
for number, line in enumerate(axes):
    order_N = np.argsort(z_NK[:, number], kind="stable")
    for axis, row in zip(line, [*order_N[:5], *order_N[-5:]], strict=True):
        show(axis, picture(int(row)), f"{z_NK[row, number]:.1f}")
figure.suptitle("The ends of the first four coordinates")
figure.savefig(work / "extremes.png", dpi=120, bbox_inches="tight")

# %% [markdown]
# ## A student, without the teacher
#
# Four labels a class, and all other images without theirs. The method `tcs-pool` spreads the labels through the store and teaches them to
# the student; `labels` is the same student from the labels alone, so that the difference is what the teacher gave.

# %%
options = {
    "models": ("test_efficientnet",),
    "shots": 4,
    "steps": 60,
    "batch_size": 48,
    "img_size": 32,
    "hflip": 0.0,
    "held_out": 0,
}
accuracies = {}
for method in ("tcs-pool", "labels"):
    run = tcs.TrainConfig.from_options(
        {**options, "store": str(work / "train.store"), "method": method, "lr": 0.004, "out": str(work / method)}
    )
    tcs.train(run)
    (score,) = tcs.evaluate(run.out, str(work / "test.store"))
    accuracies[method] = score["top1"]
    print(
        f"{method}: {score['top1']:.1f} % of {score['rows']} test images, {score['top1_low']:.1f} to {score['top1_high']:.1f}"
    )

# %% [markdown]
# The interval is of these test images alone. Another draw of four labels a class gives another student: `tcs.fewshot` repeats all of it
# over seeds, and says what can be told apart.
#
# ## Its mistakes
#
# `student.predict` takes paths, opened images or arrays. The surest mistakes are worth a look: they are odd images, wrong labels, or what
# the student has not understood.

# %%
student = tcs.load_student(work / "tcs-pool")
test_images = sorted((images / "test").rglob("*.png"))
found = student.predict(test_images, topk=1)
truth = [path.parent.name for path in test_images]
mistakes = [
    (each, path, true) for each, path, true in zip(found, test_images, truth, strict=True) if each.label != true
]
mistakes.sort(key=lambda mistake: -mistake[0].probability)
print(f"{len(mistakes)} mistakes in {len(found)} images")

figure, axes = plt.subplots(3, 8, figsize=(9, 4.4))
for axis in axes.flat:
    axis.axis("off")
for axis, (each, path, true) in zip(axes.flat, mistakes, strict=False):
    show(axis, Image.open(path), f"{true} taken for {each.label}\n{each.probability:.0%} sure")
figure.savefig(work / "mistakes.png", dpi=120, bbox_inches="tight")

# %% [markdown]
# ## Take it away
#
# The exported folder needs timm and nothing of ours. `to="onnx"` makes one file for a phone or a browser.

# %%
(exported,) = tcs.export_students(str(work / "tcs-pool"), to="timm", out=str(work / "exported"))
print(exported["path"], "gives what the run gives, to", exported["max_difference"])
again = tcs.load_student(exported["path"]).predict(test_images, topk=1)
print(
    sum(one.label == other.label for one, other in zip(found, again, strict=True)),
    "of",
    len(found),
    "decisions are the same",
)

# %% [markdown]
# ## What to read next
#
# - Your own images: `tcs distill` does all of this [in one command](../how-to/distill.md).
# - [Which images to label next](../how-to/labelling.md): `tcs suggest`. [What is wrong with the data](../how-to/audit.md): `tcs audit`.
# - [This page for your own store](../how-to/look.md), as one file: `tcs look`.
# - Is one method better than another? [The few-shot benchmark](../how-to/benchmark.md).
