"""The devices that a restored guest may have, as `grammar` writes it down. Data."""

from __future__ import annotations

from typing import Final

DEVICES: Final = """
    emulator @emulator
    disk type=file|block device=disk|cdrom|floppy model snapshot
      driver name=qemu type cache io error_policy rerror_policy discard detect_zeroes discard_no_unref ioeventfd event_idx \
copy_on_read iothread queues queue_size iommu ats packed page_per_vq
        metadata_cache
          max_size unit
        iothreads
          iothread id
            queue id
      source file:restored dev:restored
      target dev:plain bus tray removable rotation_rate
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
    controller type index model ports vectors
      driver queues cmd_per_lun max_sectors ioeventfd iothread iommu ats packed page_per_vq
        iothreads
          iothread id
            queue id
      model name
      target chassisNr chassis port busNr index hotplug memReserve
        node
      master startport
      pcihole64 unit
      &device
    interface type=network|bridge|user|direct trustGuestRxFilters managed
      mac address type check
      source network portgroup bridge:plain dev:plain mode=vepa|bridge|private
      target dev:plain
      model type
      backend type=default|passt tap=/dev/net/tun vhost=/dev/vhost-net
      driver name=qemu|vhost txmode ioeventfd event_idx queues rx_queue_size tx_queue_size rss rss_hash_report iommu ats \
packed page_per_vq
        host csum gso tso4 tso6 ecn ufo mrg_rxbuf
        guest csum tso4 tso6 ecn ufo
      bandwidth
        inbound average peak floor burst
        outbound average peak floor burst
      vlan trunk
        tag id nativeMode
      virtualport type
        parameters interfaceid instanceid profileid managerid typeid typeidversion
      filterref filter
        parameter name value
      link state
      mtu size
      coalesce
        rx
          frames max
      port isolated
      rom bar enabled
      tune
        sndbuf
      &device
    input type=mouse|tablet|keyboard bus model
      &virtio
      &device
    serial type=pty|null|vc|spicevmc|spiceport|unix
      &character
    parallel type=pty|null|vc|spicevmc|spiceport|unix
      &character
    console type=pty|null|vc|spicevmc|spiceport|unix tty:terminal
      &character
    channel type=pty|null|vc|spicevmc|spiceport|unix|qemu-vdagent
      source mode path:terminal channel
        clipboard copypaste
        mouse mode
      target type port name state
      &device
    redirdev bus type=spicevmc
      &device
    redirfilter
      usbdev class vendor product version allow
    smartcard mode=passthrough type=spicevmc
      &device
    hub type
      &device
    graphics type=vnc|spice|egl-headless port tlsPort autoport websocket listen:loopback keymap sharePolicy defaultMode \
passwd passwdValidTo connected powerControl
      listen type=address|none address:loopback
      channel name mode
      image compression
      jpeg compression
      zlib compression
      playback compression
      streaming mode
      clipboard copypaste
      mouse mode
      filetransfer enable
      gl enable
      audio id
    video
      driver name=qemu vgaconf iommu ats packed page_per_vq
      model type ram vram vram64 vgamem heads primary blob edid
        acceleration accel2d accel3d
        resolution x y
      &device
    audio id type=none|spice timerPeriod
    sound model multichannel streams
      codec type
      audio id
      &virtio
      &device
    watchdog model action
      &device
    memballoon model autodeflate freePageReporting
      stats period
      &virtio
      &device
    rng model
      rate bytes period
      backend model=random|builtin @entropy
      &virtio
      &device
    tpm model
      backend type=emulator version persistent_state
        encryption secret
        active_pcr_banks
          sha1
          sha256
          sha384
          sha512
      &device
    nvram
      &device
    panic model
      &device
    vsock model
      cid auto address
      &virtio
      &device
    iommu model
      driver intremap caching_mode eim iotlb aw_bits dma_translation
      &device
    memory model=dimm|virtio-mem access discard uuid
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
    crypto model type
      backend model=builtin queues
      &virtio
      &device
"""
