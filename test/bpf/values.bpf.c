// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The decisions on values, run by the kernel for the test: lib/verdict.h and lib/addr.h as the
 * attached programs have them. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/addr.h"
#include "bpf/lib/verdict.h"
#include "test/bpf/values.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("syscall")
int verdict_values(struct verdict_values *v)
{
	struct question q = {
		.source = v->source,
		.destination = v->destination,
		.port = (__u16)v->port,
		.egress = v->egress != 0,
		.ingress = v->ingress != 0,
	};
	const struct globals *g = globals_get();
	struct judgement j;

	if (g == NULL)
		return 0;
	j = verdict_judge(q, g);
	v->verdict = j.verdict;
	v->rule = j.rule;
	return 0;
}

SEC("syscall")
int addr_values(struct addr_values *v)
{
	struct addr16 a = {{v->word[0], v->word[1], v->word[2], v->word[3]}};

	v->is4 = addr_is4(a);
	v->loopback = addr_is_loopback(a);
	v->wildcard = addr_is_wildcard(a);
	v->slot_range = addr_is_slot_range(a);
	v->carried4 = addr_carried4(a);
	return 0;
}
