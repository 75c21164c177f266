"""The allowed parts of a restored guest's definition: all that stays within the guest, and nothing else. Data for `trust`.

    element attribute attribute=one|other attribute:rule @rule      one a line, its children indented by two more spaces
    &group                                                          the lines of that group
    element *                                                       with any attributes, and anything in it

An attribute without a rule may have any value, and so may an element's text: libvirt takes none of these for a place on the
host. The rules are in `trust`. Elements are those of libvirt 9.0 to 11, as its documentation of domains has them; what is not
here is refused, so a new element of libvirt's is harmless until somebody has looked at it.
"""

from __future__ import annotations

from typing import Final

from workers.restore.grammar_devices import DEVICES

GROUPS: Final = {
    "devices": DEVICES,
    "device": """
alias name
acpi index
address type domain bus slot function multifunction controller target unit port cssid ssid devno base reg iobase irq
  zpci uid fid
boot order loadparm
""",
    "virtio": """
driver name=qemu iommu ats packed page_per_vq queues
""",
    # a socket without a path is made by libvirt, in its own directory
    "character": """
source mode path:terminal channel append
target type port name state
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
  title
  description
  metadata *
  memory unit dumpCore
  currentMemory unit
  maxMemory unit slots
  memoryBacking
    hugepages
      page size unit nodeset
    nosharepages
    locked
    source type=anonymous|memfd
    access mode
    allocation mode threads
    discard
  vcpu placement cpuset current
  vcpus
    vcpu id enabled hotpluggable order
  iothreads
  iothreadids
    iothread id thread_pool_min thread_pool_max
      poll max grow shrink
  defaultiothread thread_pool_min thread_pool_max
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
    vcpusched vcpus scheduler priority
    iothreadsched iothreads scheduler priority
    emulatorsched scheduler priority
    cachetune vcpus
      cache id level type size unit
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
    memory mode nodeset placement
    memnode cellid mode nodeset
  resource
    partition @partition
  sysinfo type
    bios
      entry name
    system
      entry name
    baseBoard
      entry name
    chassis
      entry name
    oemStrings
      entry
    entry name
  os firmware=efi|bios
    type arch machine
    firmware
      feature enabled name
    loader readonly secure type stateless format @firmware
    nvram template:shared templateFormat format @variables
    boot dev:plain
    bootmenu enable timeout
    bios useserial rebootTimeout
    smbios mode
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
    hyperv mode
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
  cpu mode match check migratable deprecated_features
    arch
    model fallback vendor_id
    vendor
    topology sockets dies clusters cores threads
    feature name policy
    cache mode level
    maxphysaddr mode bits limit
    numa
      cell id cpus memory unit memAccess discard
        distances
          sibling id value
        cache level associativity policy
          size value unit
          line value unit
      interconnects
        latency initiator target cache type value
        bandwidth initiator target cache type value unit
  clock offset timezone basis adjustment start
    timer name track tickpolicy present mode frequency
      catchup threshold slew limit
  on_poweroff
  on_reboot
  on_crash
  on_lockfailure
  pm
    suspend-to-mem enabled
    suspend-to-disk enabled
  perf
    event name enabled
  keywrap
    cipher name state
  seclabel type=dynamic model relabel=yes
  devices
    &devices
"""
