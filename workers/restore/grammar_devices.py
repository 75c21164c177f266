"""The devices that a restored guest may have, as `grammar` writes it down. Data."""

from __future__ import annotations

from typing import Final

DEVICES: Final = """
    emulator @emulator
    disk type=file|block device=disk|cdrom|floppy model=virtio|virtio-transitional|virtio-non-transitional snapshot
      driver name=qemu type=qcow2|raw cache io error_policy rerror_policy discard detect_zeroes discard_no_unref ioeventfd \
event_idx copy_on_read iothread queues:few queue_size iommu ats packed page_per_vq
        metadata_cache
          max_size unit
        iothreads
          iothread id
            queue id
      source file:restored dev:restored
      target dev bus=ide|fdc|scsi|virtio|xen|usb|sata|sd tray removable rotation_rate
      iotune
        total_bytes_sec
        read_bytes_sec
        write_bytes_sec
        total_iops_sec
        read_iops_sec
        write_iops_sec
        total_bytes_sec_max
        read_bytes_sec_max
        write_bytes_sec_max
        total_iops_sec_max
        read_iops_sec_max
        write_iops_sec_max
        total_bytes_sec_max_length
        read_bytes_sec_max_length
        write_bytes_sec_max_length
        total_iops_sec_max_length
        read_iops_sec_max_length
        write_iops_sec_max_length
        size_iops_sec
        group_name
      readonly
      shareable
      geometry cyls heads secs trans
      blockio logical_block_size physical_block_size discard_granularity
      serial
      wwn
      vendor
      product
      &device
    controller type=fdc|ide|scsi|sata|usb|ccid|virtio-serial|pci|isa index ports vectors \
model=auto|none|piix3|piix4|ich6|ehci|pci-ohci|qusb1|qusb2|piix3-uhci|piix4-uhci|ich9-ehci1|ich9-uhci1|ich9-uhci2|ich9-uhci3|\
nec-xhci|qemu-xhci|buslogic|lsilogic|lsisas1068|lsisas1078|vmpvscsi|ibmvscsi|am53c974|dc390|ncr53c90|virtio-scsi|virtio|\
virtio-transitional|virtio-non-transitional|pci-root|pcie-root|pci-bridge|dmi-to-pci-bridge|pcie-root-port|\
pcie-switch-upstream-port|pcie-switch-downstream-port|pci-expander-bus|pcie-expander-bus|pcie-to-pci-bridge|isa
      driver queues:few cmd_per_lun max_sectors ioeventfd iothread iommu ats packed page_per_vq
        iothreads
          iothread id
            queue id
      model name
      target chassisNr chassis port busNr index hotplug memReserve
        node
      master startport
      pcihole64 unit
      &device
    interface type!=network|bridge|direct trustGuestRxFilters=no managed
      mac address type=generated|static check
      source network portgroup:any bridge dev mode=vepa|bridge|private
      target dev:generated
      model type=virtio|virtio-transitional|virtio-non-transitional|e1000|e1000e|e1000-82544gc|e1000-82545em|igb|rtl8139|\
vmxnet3|pcnet|ne2k_pci|ne2k_isa|i82551|i82557b|i82559er|usb-net|spapr-vlan|lan9118|smc91c111|tulip
      backend type=default tap=/dev/net/tun vhost=/dev/vhost-net
      driver name=qemu|vhost txmode ioeventfd event_idx queues:few rx_queue_size tx_queue_size rss rss_hash_report iommu ats \
packed page_per_vq
        host csum gso tso4 tso6 ecn ufo mrg_rxbuf
        guest csum tso4 tso6 ecn ufo
      bandwidth
        inbound average peak floor burst
        outbound average peak floor burst
      vlan trunk
        tag id nativeMode
      virtualport type=openvswitch|802.1Qbg|802.1Qbh|midonet
        parameters interfaceid instanceid profileid managerid typeid typeidversion
      filterref filter
        parameter name value
      link state
      mtu size:mtu
      coalesce
        rx
          frames max
      port isolated
      rom bar enabled
      tune
        sndbuf
      &device
    input type=mouse|tablet|keyboard bus=ps2|usb|virtio|xen model=virtio|virtio-transitional|virtio-non-transitional
      &virtio
      &device
    serial type=pty|null|vc|spicevmc|spiceport|unix
      &character
    parallel type=pty|null|vc|spicevmc|spiceport|unix
      &character
    console type=pty|null|vc|spicevmc|spiceport|unix tty:terminal
      &character
    channel type=pty|null|vc|spicevmc|spiceport|unix|qemu-vdagent
      source mode=bind path:terminal channel
        clipboard copypaste
        mouse mode=client|server
      target type=virtio|xen port name:label state
      &device
    redirdev bus=usb type=spicevmc
      &device
    redirfilter
      usbdev class vendor product version allow
    smartcard mode=passthrough type=spicevmc
      &device
    hub type=usb
      &device
    graphics type=vnc|spice port tlsPort autoport websocket listen:loopback keymap:keymap sharePolicy defaultMode \
passwd:any passwdValidTo connected powerControl
      listen type=address|none address:loopback
      channel name mode=secure|insecure|any
      image compression
      jpeg compression
      zlib compression
      playback compression
      streaming mode=filter|all|off
      clipboard copypaste
      mouse mode=client|server
      filetransfer enable
      gl enable=no
      audio id
    video
      driver name=qemu vgaconf iommu ats packed page_per_vq
      model type=vga|cirrus|vmvga|qxl|virtio|bochs|ramfb|none ram vram vram64 vgamem heads primary blob=off edid
        acceleration accel2d=no accel3d=no
        resolution x y
      &device
    audio id type=none|spice timerPeriod
    sound model=es1370|sb16|ac97|ich6|ich7|ich9|usb|pcspk|virtio multichannel streams
      codec type=duplex|micro|output
      audio id
      &virtio
      &device
    watchdog model=i6300esb|ib700|diag288|itco action=reset|shutdown|poweroff|pause|none|inject-nmi
      &device
    memballoon model=virtio|virtio-transitional|virtio-non-transitional|none autodeflate freePageReporting
      stats period
      &virtio
      &device
    rng model=virtio|virtio-transitional|virtio-non-transitional
      rate bytes period
      backend model=random|builtin @entropy
      &virtio
      &device
    tpm model=tpm-tis|tpm-crb|tpm-spapr
      backend type=emulator version persistent_state
        active_pcr_banks
          sha1
          sha256
          sha384
          sha512
      &device
    nvram
      &device
    panic model=isa|pseries|hyperv|s390|pvpanic
      &device
    vsock model=virtio|virtio-transitional|virtio-non-transitional
      cid auto address
      &virtio
      &device
    iommu model=intel|amd|smmuv3|virtio
      driver intremap caching_mode eim iotlb aw_bits dma_translation
      &device
    memory model=dimm|virtio-mem access:in-memory discard uuid
      source
        pagesize unit
        nodemask
      target dynamicMemslots
        size unit
        node
        block unit
        requested unit
        current unit
      &device
    crypto model=virtio type=qemu
      backend model=builtin queues:few
      &virtio
      &device
"""
