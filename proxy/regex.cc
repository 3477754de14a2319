// SPDX-License-Identifier: Apache-2.0
// The shim over RE2, see regex.h. Built without exceptions: RE2 does not throw, it reports.
#include "proxy/regex.h"

#include <re2/re2.h>

#include <cstring>
#include <new>

struct regex {
	RE2 re;

	regex(const re2::StringPiece &pattern, const RE2::Options &options) : re(pattern, options)
	{
	}
};

static void say(char *error, size_t size, const char *p, size_t n)
{
	if (size == 0)
		return;
	n = n < size - 1 ? n : size - 1;
	memcpy(error, p, n);
	error[n] = '\0';
}

struct regex *regex_new(const char *pattern, size_t len, char *error, size_t error_size)
{
	static const char too_long[] = "longer than 1024 bytes";
	RE2::Options options;
	struct regex *r;

	say(error, error_size, "", 0);
	if (len > REGEX_PATTERN_MAX) {
		say(error, error_size, too_long, sizeof(too_long) - 1);
		return nullptr;
	}
	options.set_log_errors(false);
	options.set_max_mem(8 << 20);
	r = new (std::nothrow) regex(re2::StringPiece(pattern, len), options);
	if (r != nullptr && !r->re.ok()) {
		say(error, error_size, r->re.error().data(), r->re.error().size());
		delete r;
		return nullptr;
	}
	return r;
}

void regex_free(struct regex *r)
{
	delete r;
}

bool regex_match(const struct regex *r, const char *p, size_t n)
{
	return RE2::FullMatch(re2::StringPiece(p, n), r->re);
}
