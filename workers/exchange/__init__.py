"""Exchange: captures out of a repository as files that need none of us, and such files in again.

An *image set* is a directory with one capture in it: each disk as an image without a backing file, each guest's domain XML, a
*description* for programs, checksums for `sha256sum -c`, and a README for people.

    repository ──export──▶ DIR/ README.txt  export.json  SHA256SUMS ──import──▶ repository
                               alpha.xml          as captured
                               define/alpha.xml   for `virsh define`, its disks where DIR is
                               alpha-vda.qcow2    …

    export    DIR.partial/ filled, disk by disk, as a restore does it ─ all of it synced ─ renamed to DIR
    import    names and checksums checked ─ each image read through a qemu-nbd of our own ─ indexes ─ the manifest

What holds whatever dies:

1. Where DIR is, it is whole and on stable storage. What was interrupted is DIR.partial, and the same export again goes on with
   it: what is there is read and compared with the capture, never believed.
2. An import that dies leaves chunks and indexes that nobody refers to, as a capture does (docs/repository.md, crash windows).
3. Nothing in an image set is believed but the bytes of its images, and those only if they have the checksums that the set
   states. An imported capture is labelled `crash`, whatever the set says of it, and has no proof; its manifest says that it was
   imported and keeps what was claimed. A proof is about a run that our own hosts reported, and files that were outside may be
   anybody's.
4. An image is read alone: one that names another file (a backing file, a data file) is refused, since it could name any.
"""
