// SPDX-License-Identifier: Apache-2.0
// The shim over RE2, see regex.h. Built without exceptions: RE2 does not throw, it reports.
#include "proxy/regex.h"

#include <re2/re2.h>
#include <re2/set.h>

#include <cstring>
#include <new>
#include <string>
#include <vector>

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
	options.set_max_mem(REGEX_MEMORY);
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

/* Everything that matches lies between two texts; what these have in common it begins with. */
size_t regex_prefix(const struct regex *r, char *out, size_t size)
{
	std::string low, high;
	size_t n = 0;

	if (!r->re.PossibleMatchRange(&low, &high, static_cast<int>(size)))
		return 0;
	while (n < size && n < low.size() && n < high.size() && low[n] == high[n]) {
		out[n] = low[n];
		n++;
	}
	return n;
}

struct regex_set {
	RE2::Set set;
	size_t count;

	regex_set(const RE2::Options &options, size_t n) : set(options, RE2::ANCHOR_BOTH), count(n)
	{
	}
};

struct regex_hits {
	std::vector<int> items;
};

struct regex_set *regex_set_new(const char *const *patterns, size_t n, long memory)
{
	RE2::Options options;
	struct regex_set *s;
	bool good;

	options.set_log_errors(false);
	options.set_max_mem(memory);
	s = new (std::nothrow) regex_set(options, n);
	good = s != nullptr;
	for (size_t i = 0; good && i < n; i++)
		good = s->set.Add(patterns[i], nullptr) == static_cast<int>(i);
	if (good && s->set.Compile())
		return s;
	delete s;
	return nullptr;
}

void regex_set_free(struct regex_set *s)
{
	delete s;
}

struct regex_hits *regex_hits_new(void)
{
	return new (std::nothrow) regex_hits;
}

void regex_hits_free(struct regex_hits *h)
{
	delete h;
}

/* Only a list of hits makes RE2 allocate: of a set of one it is not asked for. */
int regex_set_match(const struct regex_set *s, const char *p, size_t n, struct regex_hits *h,
		    const int **items)
{
	static const int first = 0;
	std::vector<int> *hits = s->count > 1 ? &h->items : nullptr;
	RE2::Set::ErrorInfo error = {RE2::Set::kNoError};
	bool any = s->set.Match(re2::StringPiece(p, n), hits, &error);

	if (!any && error.kind != RE2::Set::kNoError)
		return -1;
	*items = hits == nullptr ? &first : h->items.data();
	return !any ? 0 : hits == nullptr ? 1 : static_cast<int>(h->items.size());
}
