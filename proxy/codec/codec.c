/* SPDX-License-Identifier: Apache-2.0 */
/* What all protocols share: see codec.h. */
#include "codec.h"

const struct codec_limits codec_limits_default = {
	.head = 64 * 1024,
	.target = 16 * 1024,
	.fields = 200,
};
