"""Python lines for people who use a student without tcs: how an image file is opened as the student was trained to see it.

They do what changes ordinary photographs and drawings. What is rarer (colour profiles, 16 bits, CMYK) Pillow's plain conversion does, which
is not all that `tcs.images.decode` does.
"""

from tcs.config.pixels import FIRST, SCALED_MARGIN, PixelRules

IMPORTS = "from PIL import Image, ImageOps\n"


def open_image_lines(rules: PixelRules, size: int) -> str:
    """The function `open_image(path)`, which gives a Pillow image of mode RGB; it needs `IMPORTS`. `size` is the student's."""
    head = f'def open_image(path):\n    """As the student was trained: {rules.describe()}."""\n'
    if rules.scaled:
        head += _scaled_lines(size)
    opened = "image" if rules.scaled else "Image.open(path)"
    if rules.version == FIRST:
        return head + f'    return {opened}.convert("RGB")\n'
    opened = f"ImageOps.exif_transpose({opened})" if rules.orientation else opened
    return (
        f"{head}    image = {opened}\n"
        "    if image.has_transparency_data:\n"
        '        image = image.convert("RGBA")\n'
        f'        image = Image.alpha_composite(Image.new("RGBA", image.size, "{rules.background}"), image)\n'
        '    return image.convert("RGB")\n'
    )


def _scaled_lines(size: int) -> str:
    """The JPEG at the fraction that training decodes it at, resized to `size` at once: Pillow alone knows the box of its pixels."""
    least = SCALED_MARGIN * size
    return (
        "    image = Image.open(path)\n"
        "    width, height = image.size\n"
        f"    drafted = image.draft(None, ({least}, {least}))\n"
        "    if image.size != (width, height):\n"
        f"        sides = [max({size}, round(side * {size} / min(width, height))) for side in (width, height)]\n"
        "        image = image.resize(sides, Image.Resampling.BICUBIC, drafted[1])\n"
    )
