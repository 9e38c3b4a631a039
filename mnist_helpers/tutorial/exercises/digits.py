"""The exercises of notebook 01: files, pixels and batches."""

from typing import Any

from mnist_helpers.tutorial.exercises.verdicts import judge


def check_file_size(answer: Any) -> None:
    """How many bytes does an IDX file of 20,000 images of 28x28 pixels have?"""
    judge(
        answer,
        right=16 + 20_000 * 28 * 28,
        why="A byte a pixel, and 16 bytes before them: two zeros, the type, the rank, three sizes.",
        hints={
            20_000 * 28 * 28: "That is all pixels. What stands before them in the file?",
            8 + 20_000 * 28 * 28: "The header of images is longer: three sizes, not one.",
            4 + 20_000 * 28 * 28: "Each of the three sizes takes four bytes as well.",
            16 + 20_000 * 28 * 28 * 4: "On disk a pixel is one byte; only floats take four.",
            16 + 20_000 * 28: "An image is 28 rows of 28 pixels.",
        },
        otherwise="Count the header's bytes, and add one byte for each pixel of 20,000 images.",
    )


def check_grey(answer: Any) -> None:
    """What does a half-dark pixel, 128, become when it is normalised?"""
    judge(
        answer,
        right=(128 / 255 - 0.1307) / 0.3081,
        why="More than one standard deviation above the mean: most pixels are background.",
        hints={
            (128 - 0.1307) / 0.3081: "First bring the pixel to the scale from 0 to 1.",
            128 / 255 / 0.3081: "The mean has to be taken away before dividing.",
            (128 / 255 - 0.1307) * 0.3081: "The standard deviation divides; it does not multiply.",
            (0.5 - 0.1307) / 0.3081: "Nearly: a byte goes up to 255, not to 256.",
        },
        otherwise="Divide 128 by 255, take the mean 0.1307 away, divide by 0.3081.",
    )


def check_batches(answer: Any) -> None:
    """How many batches of 64 does an epoch over 60,000 images have?"""
    judge(
        answer,
        right=938,
        why="937 full ones, and a last one of 32 images: no image is left out.",
        hints={
            937: "And the images that are left after 937 full batches?",
            937.5: "There are no half batches. What happens to the last images?",
            60_000 * 64: "A batch takes 64 images out of the 60,000: divide.",
            64: "That is the size of a batch. How many of them are there?",
        },
        otherwise="Divide 60,000 by 64, and think of the images that are left.",
    )
