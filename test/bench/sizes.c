/* SPDX-License-Identifier: Apache-2.0 */
/* How large the daemon's fixed structs are, as one line of JSON. */
#include <malloc.h>
#include <stdio.h>

#include "proxy/conn.h"
#include "proxy/exchange.h"
#include "proxy/upstream.h"

int main(void)
{
	struct codec *k = codec_http1.open(CODEC_SERVER, &codec_limits_default, NULL);

	if (k == NULL)
		return 1;
	printf("{\"conn\":%zu,\"upstream\":%zu,\"codec\":%zu,\"exchange\":%zu}\n",
	       sizeof(struct conn), sizeof(struct upstream), malloc_usable_size(k),
	       sizeof(struct exchange));
	codec_http1.close(k);
	return 0;
}
