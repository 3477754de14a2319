/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of one size: see slab.h. */
#include "proxy/slab.h"

#include <stdlib.h>
#include <string.h>

void *slab_get(struct slab *s)
{
	void *object = s->free;

	if (object == NULL) {
		object = malloc(s->size);
		if (object == NULL)
			return NULL;
	} else {
		s->free = *(void **)object;
		s->kept--;
	}
	memset(object, 0, s->zeroed);
	return object;
}

void slab_put(struct slab *s, void *object)
{
	if (s->kept >= SLAB_KEEP) {
		free(object);
		return;
	}
	*(void **)object = s->free;
	s->free = object;
	s->kept++;
}

void slab_drop(struct slab *s)
{
	while (s->free != NULL) {
		void *object = s->free;

		s->free = *(void **)object;
		free(object);
	}
	s->kept = 0;
}
