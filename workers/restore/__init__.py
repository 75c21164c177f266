"""Restore: captured guests brought back. Needs the repository alone; libvirt only where a guest is to be defined.

A *part* is one captured disk on its way to its *destination*: an *image* (a file, `raw` or `qcow2`), a *block device* or an
*NBD export*. Its *lanes* are what threads write through, one each. A *partial* file is an image that is not whole yet. A disk's
*mark* is how far it is known to be durable, in bytes of the disk; a small *progress* document beside the image keeps it. A
*definition* is the domain XML that a restored guest is defined with: *as captured*, or under a *new identity* that lets it live
beside the guest it came from.

    manifest ─▶ plan ─▶ checks ─▶ for each guest:  disks, two at once ─▶ its XML ─▶ define ─▶ start
                        (nothing is written before all of them pass)

    disk       0                          mark                                        size
    then       │ written, then fsynced    │ perhaps written, perhaps not, perhaps torn │
    resumed    │ read back and digested:  │ made blank (an image) or written anew,     │
               │ kept, or written anew    │ holes and all (a device, an export)        │

What holds whatever dies:

1. A file under its final name is whole and on stable storage. What was interrupted ends in `.partial`. The next restore of
   the same disk to the same place goes on with it if its progress is of the same index, format and file; else it makes way.
2. A file that was there stays as it was unless the caller said `overwrite`; then it is there until the new one is whole.
3. Every byte was verified against its digest, also what an interrupted restore had written: whatever has happened to a partial
   file since, nothing is kept that is not the captured disk's. (`trust` keeps what is below the mark unread: then that rests on
   the file being the same and on nobody having written to it.) A disk with a damaged chunk is not restored in part.
4. A guest's XML comes after its disks: where it lies, the guest is whole. A block device or an export has no name to be given
   last, so for those it is the only sign.
5. A progress document is removed before the partial file that it speaks of makes way, and after the image has its name: it
   never speaks of another file. Nothing is written to a block device that anything else in the kernel has claimed.

| interrupted by                                            | what stays, if 256 MiB or more were durable        |
|-----------------------------------------------------------|----------------------------------------------------|
| kill, power cut, Ctrl-C, the repository being away         | the partial file and its progress                  |
| a target that is full or fails, a damaged chunk            | nothing of an image; a device as it was by then    |
"""
