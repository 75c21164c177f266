"""The allowed parts of a restored guest's definition: all that stays within the guest, and nothing else. Data for `trust`.

    element attribute attribute=one|other attribute:rule    one a line, its children indented by two more spaces
    element attribute!=one|other                            the attribute must be there: what libvirt takes without it reaches
    element =one|other                                      of its text, as `@rule`
    &group                                                  the lines of that group
    element *                                               with any attributes, and anything in it

An attribute or a text without a rule may have any value without a slash: no path of the host. Whatever chooses a sort of device
or of backend has its values listed, since one of a later libvirt may reach the host. The rules are in `rules`. Elements are
those of libvirt 9.0 to 11, as its documentation of domains has them; what is not here is refused, so a new element of libvirt's
is harmless until it was looked at. docs/security.md says what of the host is let through on purpose.
"""

from __future__ import annotations

from typing import Final

from workers.restore.grammar_devices import DEVICES

GROUPS: Final = {
    "devices": DEVICES,
    "device": """
alias name
acpi index
address type=pci|drive|virtio-serial|ccid|usb|spapr-vio|ccw|virtio-mmio|isa|dimm|unassigned domain bus slot function \
multifunction controller target unit port cssid ssid devno base reg iobase irq
  zpci uid fid
boot order loadparm
""",
    "virtio": """
driver name=qemu iommu ats packed page_per_vq queues:few
""",
    # a socket without a path is made by libvirt, in its own directory, by the name of the target
    "character": """
source mode=bind path:terminal channel
target type=isa-serial|usb-serial|pci-serial|spapr-vio-serial|system-serial|sclp-serial|isa-debug|serial|virtio|sclp|sclplm \
port name:label state
  model name
&device
""",
}

DOMAIN: Final = """
domain type=kvm|qemu|test id
  name
  uuid
  hwuuid
  genid
  title @any
  description @any
  metadata *
  memory unit dumpCore
  currentMemory unit
  maxMemory unit slots
  memoryBacking
    hugepages
      page size unit nodeset
    nosharepages
    source type=anonymous|memfd
    access mode:in-memory
    allocation mode=immediate|ondemand threads:few
    discard
  vcpu placement cpuset current
  vcpus
    vcpu id enabled hotpluggable order
  iothreads @few
  iothreadids
    iothread id:few thread_pool_min:few thread_pool_max:few
      poll max grow shrink
  defaultiothread thread_pool_min:few thread_pool_max:few
  cputune
    shares
    period
    quota
    global_period
    global_quota
    emulator_period
    emulator_quota
    iothread_period
    iothread_quota
    vcpupin vcpu cpuset
    emulatorpin cpuset
    iothreadpin iothread cpuset
    vcpusched vcpus scheduler=batch|idle
    iothreadsched iothreads scheduler=batch|idle
    emulatorsched scheduler=batch|idle
    cachetune vcpus
      cache id level type=both|code|data size unit
      monitor level vcpus
    memorytune vcpus
      node id bandwidth
      monitor vcpus
  memtune
    hard_limit unit
    soft_limit unit
    swap_hard_limit unit
    min_guarantee unit
  blkiotune
    weight
  numatune
    memory mode=interleave|strict|preferred|restrictive nodeset placement
    memnode cellid mode=interleave|strict|preferred|restrictive nodeset
  resource
    partition @partition
  sysinfo type=smbios
    bios
      entry name @any
    system
      entry name @any
    baseBoard
      entry name @any
    chassis
      entry name @any
    oemStrings
      entry @any
  os firmware=efi|bios
    type arch machine =hvm
    firmware
      feature enabled name
    loader readonly secure type=rom|pflash stateless format=raw|qcow2 @firmware
    nvram template:shared templateFormat=raw|qcow2 format=raw|qcow2 @variables
    boot dev=fd|hd|cdrom|network
    bootmenu enable timeout
    bios useserial rebootTimeout
    smbios mode=emulate|sysinfo
  features
    acpi
    apic eoi
    pae
    hap state
    viridian
    privnet
    pvspinlock state
    pmu state
    vmport state
    vmcoreinfo state
    smm state
      tseg unit
    ioapic driver
    gic version
    hpt resizing
      maxpagesize unit
    htm state
    nested-hv state
    ccf-assist state
    cfpc value
    sbbc value
    ibs value
    msrs unknown
    ras state
    ps2 state
    aia value
    async-teardown enabled
    tcg
      tb-cache unit
    kvm
      hidden state
      hint-dedicated state
      poll-control state
      pv-ipi state
      dirty-ring state size
    hyperv mode=custom|passthrough
      relaxed state
      vapic state
      spinlocks state retries
      vpindex state
      runtime state
      synic state
      stimer state
        direct state
      reset state
      vendor_id state value
      frequencies state
      reenlightenment state
      tlbflush state
        direct state
        extended state
      ipi state
      avic state
      evmcs state
      emsr_bitmap state
      xmm_input state
  cpu mode=custom|host-model|host-passthrough|maximum match check migratable deprecated_features
    arch
    model fallback vendor_id
    vendor
    topology sockets dies clusters cores threads
    feature name policy
    cache mode=emulate|passthrough|disable level
    maxphysaddr mode=emulate|passthrough bits limit
    numa
      cell id cpus memory unit memAccess:in-memory discard
        distances
          sibling id value
        cache level associativity policy
          size value unit
          line value unit
      interconnects
        latency initiator target cache type=access|read|write value
        bandwidth initiator target cache type=access|read|write value unit
  clock offset timezone:zone basis adjustment start
    timer name track tickpolicy present mode=auto|native|emulate|paravirt|smpsafe frequency
      catchup threshold slew limit
  on_poweroff =destroy|restart|preserve|rename-restart
  on_reboot =destroy|restart|preserve|rename-restart
  on_crash =destroy|restart|preserve|rename-restart
  on_lockfailure =poweroff|restart|pause
  pm
    suspend-to-mem enabled
    suspend-to-disk enabled
  keywrap
    cipher name state
  seclabel type=dynamic model=selinux|apparmor|dac relabel=yes
  devices
    &devices
"""
