/* SPDX-License-Identifier: Apache-2.0 */
/* Log-linear counting: see histogram.h. */
#include "test/bench/histogram.h"

/* Below 64 ns each has a place of its own; above it the six bits behind the highest one say. */
static unsigned place_of(uint64_t ns)
{
	unsigned shift;

	if (ns < HISTOGRAM_STEPS)
		return (unsigned)ns;
	shift = 63 - 6 - (unsigned)__builtin_clzll(ns);
	return (shift + 1) * HISTOGRAM_STEPS + (unsigned)(ns >> shift) - HISTOGRAM_STEPS;
}

static uint64_t begin_of(unsigned place)
{
	unsigned shift = place / HISTOGRAM_STEPS;

	if (shift == 0)
		return place;
	return (uint64_t)(place % HISTOGRAM_STEPS + HISTOGRAM_STEPS) << (shift - 1);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->count[place_of(ns)]++;
	h->n++;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
	uint64_t rank = (uint64_t)((double)h->n * q), sum = 0;

	for (unsigned i = 0; i < sizeof h->count / sizeof h->count[0]; i++) {
		sum += h->count[i];
		if (sum > rank || (sum == h->n && sum > 0))
			return begin_of(i);
	}
	return 0;
}
