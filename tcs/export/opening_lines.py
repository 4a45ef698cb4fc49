"""Python lines for people who use a student without tcs: how an image file is opened as the student was trained to see it.

They do what changes ordinary photographs and drawings. What is rarer (colour profiles, 16 bits, CMYK) Pillow's plain conversion does, which
is not all that `tcs.images.decode` does.
"""

from tcs.config.pixels import FIRST, PixelRules

IMPORTS = "from PIL import Image, ImageOps\n"


def open_image_lines(rules: PixelRules) -> str:
    """The function `open_image(path)`, which gives a Pillow image of mode RGB; it needs `IMPORTS`."""
    head = f'def open_image(path):\n    """As the student was trained: {rules.describe()}."""\n'
    if rules.version == FIRST:
        return head + '    return Image.open(path).convert("RGB")\n'
    opened = "ImageOps.exif_transpose(Image.open(path))" if rules.orientation else "Image.open(path)"
    return (
        f"{head}    image = {opened}\n"
        "    if image.has_transparency_data:\n"
        '        image = image.convert("RGBA")\n'
        f'        image = Image.alpha_composite(Image.new("RGBA", image.size, "{rules.background}"), image)\n'
        '    return image.convert("RGB")\n'
    )
