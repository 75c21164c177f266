"""libvirt, and the only place that imports it.

`connection` lends connections, one caller each, and keeps their event loop running; `domain` reads what a guest is and in
what state; `agent` talks to the guest agent; `backup` begins and ends backups; `checkpoint` proves, creates and deletes
checkpoints; `schema` goes around a race in libvirtd's validation of XML.

Every libvirt failure leaves here as a HypervisorError with libvirt's own words in it. Libvirt XML is built and parsed
with lxml, with entities off. A guest that was looked up is one thread's at a time: its connection is its own, so that no call
waits for another guest's. Connections are opened after a fork, never before.
"""
