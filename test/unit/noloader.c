/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for bpf/loader.c in tests of the control thread: whatever the kernel's half is told
 * succeeds, and nothing happens. A test defines by itself what it wants to see; what is called
 * here returns 0, false or NULL, which is all that the callers look at.
 */

#define STUB(name)                                                                                 \
	__attribute__((weak)) long name(void);                                                     \
	long name(void)                                                                            \
	{                                                                                          \
		return 0;                                                                          \
	}

STUB(loader_address_replace)
STUB(loader_close)
STUB(loader_counters)
STUB(loader_detach)
STUB(loader_dials)
STUB(loader_error)
STUB(loader_events_drain)
STUB(loader_events_fd)
STUB(loader_exclusions_prune)
STUB(loader_exclusions_put)
STUB(loader_globals)
STUB(loader_host_workloads)
STUB(loader_inbound_attach)
STUB(loader_inbound_detach)
STUB(loader_inbound_is_taken)
STUB(loader_listener_put)
STUB(loader_listener_remove)
STUB(loader_open)
STUB(loader_owner_replace)
STUB(loader_policy_prune)
STUB(loader_policy_put)
STUB(loader_registry_is_complete)
STUB(loader_registry_sweep)
STUB(loader_registry_walk)
STUB(loader_registry_walks)
STUB(loader_slots)
STUB(loader_state)
STUB(loader_undo)
STUB(loader_workload)
STUB(loader_workload_list)
STUB(loader_workload_put)
STUB(loader_workload_remove)
