/* SPDX-License-Identifier: Apache-2.0 */
/* How large the daemon's fixed structs are, as one line of JSON. */
#include <stdio.h>

#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/upstream.h"

int main(void)
{
	printf("{\"conn\":%zu,\"upstream\":%zu,\"exchange\":%zu}\n", sizeof(struct conn),
	       sizeof(struct upstream), sizeof(struct exchange));
	return 0;
}
