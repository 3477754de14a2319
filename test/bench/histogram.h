/* SPDX-License-Identifier: Apache-2.0 */
/* Times in ns, counted in steps of 1/64 of their magnitude: a quantile is exact to 1.6 %. */
#ifndef SHUNT_BENCH_HISTOGRAM_H
#define SHUNT_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 64

struct histogram {
	uint64_t n;
	uint64_t count[64 * HISTOGRAM_STEPS];
};

void histogram_add(struct histogram *h, uint64_t ns);
/* The time that the share `q` (0 to 1) of all did not exceed; 0 when there are none. */
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
