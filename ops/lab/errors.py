"""What can go wrong with a lab, each with the thing it happened to."""


class LabError(Exception):
    """The lab could not do what was asked; the message says to which host or guest it happened."""


class NotALabError(LabError):
    """The directory holds no lab's state file: nothing in it was touched, because it may be anybody's."""


class GuestError(LabError):
    """A guest, or the agent in it, did not answer as it should."""
