"""What can go wrong with image sets."""

from __future__ import annotations

from freezeframe.errors import EXIT_DAMAGED, EXIT_NOT_FOUND, EXIT_REFUSED, FreezeframeError


class ExchangeError(FreezeframeError):
    """The export or import failed."""

    code = "exchange"


class ExportTargetError(ExchangeError):
    """The directory cannot become an image set."""

    code = "export-target"
    exit_code = EXIT_REFUSED
    advice = "Give the name of a directory that is not there yet; the one above it must be."


class ImageSetNotFoundError(ExchangeError):
    """There is no image set, or no image, at that place."""

    code = "image-set-not-found"
    exit_code = EXIT_NOT_FOUND
    advice = "Give a directory that `freezeframe export` has made, or --xml and --disk for images from elsewhere."


class ImageSetUnfitError(ExchangeError):
    """What the description of an image set says cannot be used."""

    code = "image-set-unfit"
    exit_code = EXIT_REFUSED
    advice = "Import its images with --xml and --disk instead."


class ImageSetNewerError(ImageSetUnfitError):
    """A newer version has made the image set."""

    code = "image-set-newer"
    advice = "Import it with that version, or its images alone with --xml and --disk."


class ImageSetDamagedError(ExchangeError):
    """A file of an image set is not what was exported."""

    code = "image-set-damaged"
    exit_code = EXIT_DAMAGED
    advice = (
        "Copy the set again, or export the capture again; `sha256sum -c SHA256SUMS` names every file that is affected."
    )


class ImageUnfitError(ExchangeError):
    """An image cannot be imported."""

    code = "image-unfit"
    exit_code = EXIT_REFUSED
    advice = "Make one that stands alone: qemu-img convert -O qcow2 OLD NEW."


class ImageToolError(ExchangeError):
    """QEMU's tools for images are missing or failed."""

    code = "image-tool"
    advice = "Install qemu-utils (Debian) or qemu-img (Fedora), and python3-libnbd."
