"""libvirt, and the only place that imports it.

`connection` keeps one connection open and its event loop running; `domain` reads what a guest is and in what state;
`agent` talks to the guest agent; `backup` begins and ends backups; `checkpoint` proves, creates and deletes checkpoints.

Every libvirt failure leaves here as a HypervisorError with libvirt's own words in it. Libvirt XML is built and parsed
with lxml, with entities off. libvirt-python releases the GIL in calls, so threads may share a connection; it must be
opened after a fork, never before.
"""
