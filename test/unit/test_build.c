/* SPDX-License-Identifier: Apache-2.0 */
#include "config_load.h"
#include "proxy/codec/codec.h"

#include <arpa/inet.h>
#include <errno.h>

#include "config/schema.h"
#include "failmalloc.h"

#pragma weak failmalloc_at
#pragma weak failmalloc_hit

static void says(const char *text, unsigned line, unsigned column, const char *error)
{
	struct loaded l = load(text);
	bool there = false;

	if (l.err != -EINVAL)
		print_message("%s\n", text);
	assert_int_equal(l.err, -EINVAL);
	for (size_t i = 0; i < l.f.count; i++) {
		const struct finding *f = &l.f.items[i];

		there |= f->level == FINDING_ERROR && f->where.line == line &&
			 f->where.column == column && strcmp(f->text, error) == 0;
	}
	if (!there) {
		print_findings(&l.f);
		fail_msg("not said at %u:%u: %s", line, column, error);
	}
	unload(&l);
}

static void warns(const char *text, unsigned line, const char *warning)
{
	struct loaded l = load(text);

	if (l.err != 0)
		print_findings(&l.f);
	assert_int_equal(l.err, 0);
	assert_true(found(&l.f, FINDING_WARNING, line, warning));
	unload(&l);
}

static void fine(const char *text)
{
	struct loaded l = load(text);

	if (l.err != 0) {
		print_message("%s\n", text);
		print_findings(&l.f);
	}
	assert_int_equal(l.err, 0);
	unload(&l);
}

/* ---- workloads ---- */

#define W(spec) "apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: a}\nspec: " spec "\n"

static void a_workload_becomes_what_its_document_says(void **state)
{
	struct loaded l = load(
		"apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: a, namespace: shop}\n"
		"spec:\n  address: 10.0.0.7\n  addresses: ['fd00::1']\n  labels: {b: x, a: ''}\n"
		"  serviceAccount: acc\n  selectors: ['netns:/run/netns/a']\n  onUnavailable: "
		"deny\n"
		"---\n" W("{address: 10.0.0.8}"));
	const struct fleet_workload *w;
	struct addr16 ip = {.word = {0, 0, htonl(0xffff), htonl(0x0a000007)}};

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(l.s.fleet->workload_count, 2);
	assert_int_equal(l.s.fleet->revision, 7);
	assert_string_equal(l.s.fleet->workloads[0].namespace, "default");
	assert_string_equal(l.s.fleet->workloads[0].service_account, "default");
	assert_int_equal(l.s.fleet->workloads[0].selector, SELECTOR_NONE);
	assert_null(l.s.fleet->workloads[0].selected);
	w = fleet_by_name(l.s.fleet, "shop", "a");
	assert_non_null(w);
	assert_string_equal(w->spiffe_id, "spiffe://cluster.local/ns/shop/sa/acc");
	assert_int_equal(w->selector, SELECTOR_NETNS);
	assert_string_equal(w->selected, "/run/netns/a");
	assert_int_equal(w->port_count, 0);
	assert_false(w->unavailable_allow);
	assert_int_equal(w->exclude.port_count + w->exclude.cidr_count, 0);
	assert_string_equal(w->labels[0].key, "a");
	assert_string_equal(w->labels[0].value, "");
	assert_string_equal(w->labels[1].key, "b");
	assert_int_equal(w->address_count, 2);
	assert_memory_equal(&w->addresses[0], &ip, sizeof ip);
	assert_null(fleet_by_name(l.s.fleet, "shop", "b"));
	assert_string_equal(w->where.file, "conf.d/a.yaml");
	assert_int_equal(w->where.line, 1);
	unload(&l);
}

static void workloads_of_equal_labels_share_an_identity(void **state)
{
	struct loaded l = load(WORKLOAD("a", "x", "{k: v, l: w}") WORKLOAD("a", "w", "{l: w, k: v}")
				       WORKLOAD("b", "x", "{k: v, l: w}")
					       WORKLOAD("a", "z", "{k: v, l: w, m: ''}"));

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(who(&l, "a/x"), who(&l, "a/w"));
	assert_true(who(&l, "a/x") >= IDENTITY_FIRST);
	assert_int_not_equal(who(&l, "a/x"), who(&l, "b/x"));
	assert_int_not_equal(who(&l, "a/x"), who(&l, "a/z"));
	unload(&l);
}

/* Also in a process that begins anew, whatever else it knows. */
static void the_same_labels_have_the_same_number_everywhere(void **state)
{
	struct loaded l = load(WORKLOAD("s", "m", "{k: m}") WORKLOAD("s", "a", "{k: a}"));
	struct loaded again = load(WORKLOAD("s", "a", "{k: a}"));

	(void)state;
	assert_int_equal(who(&l, "s/a"), who(&again, "s/a"));
	unload(&l);
	unload(&again);
}

static void an_identity_keeps_its_number_over_loads(void **state)
{
	struct identity_table *t = identity_table_new();
	static const char *const texts[] = {
		WORKLOAD("s", "m", "{k: m}"),
		WORKLOAD("s", "a", "{k: a}") WORKLOAD("s", "m", "{k: m}"),
		WORKLOAD("s", "z", "{k: z}") WORKLOAD("s", "a", "{k: a}")};
	uint32_t m = 0, a = 0;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct document_file f = document("x.yaml", texts[i]);
		struct loaded l = {.identities = t};

		l.err = config_build(&f, 1, t, i, &l.s, &l.f);
		assert_int_equal(l.err, 0);
		if (i == 0)
			m = who(&l, "s/m");
		if (i == 1) {
			a = who(&l, "s/a");
			assert_int_equal(who(&l, "s/m"), m);
		}
		if (i == 2) {
			assert_int_equal(who(&l, "s/a"), a);
			assert_int_not_equal(who(&l, "s/z"), m);
		}
		snapshot_free(&l.s);
		findings_free(&l.f);
	}
	identity_table_free(t);
	identity_table_free(NULL);
}

static void what_is_wrong_with_a_workload_is_said_at_its_place(void **state)
{
	(void)state;
	says(W("{address: 10.0.0}"), 4, 17, "'10.0.0' is not an IP address");
	says(W("{address: 10.0}"), 4, 17,
	     "address: 10.0 without quotes is a number; write \"10.0\"");
	says(W("{selectors: ['unix:uid:0']}"), 4, 20,
	     "selector 'unix:uid:0' is not enforced by this version; it knows netns:PATH, "
	     "cgroup:/PATH and systemd:id:UNIT");
	says(W("{selectors: ['netns-inode:1']}"), 4, 20,
	     "selector 'netns-inode:1' is not enforced by this version; it knows netns:PATH, "
	     "cgroup:/PATH and systemd:id:UNIT");
	says(W("{selectors: ['netns:run']}"), 4, 20,
	     "netns: takes the absolute path of a network namespace, such as "
	     "netns:/run/netns/NAME");
	says(W("{selectors: []}"), 4, 19, "selectors is empty; leave it out for a remote workload");
	says(W("{selectors: ['netns:/a', 'netns:/b']}"), 4, 19,
	     "more than one selector is not enforced by this version");
	says(W("{address: 10.0.0.1, onUnavailable: maybe}"), 4, 42,
	     "onUnavailable: 'maybe' is not deny or allow");
	says(W("{address: 10.0.0.1, onUnavailable: no}"), 4, 42,
	     "onUnavailable: no without quotes is a boolean; write \"no\"");
	says(W("{address: 10.0.0.1, node: n}"), 4, 27,
	     "field 'node' is not enforced by this version");
	says(W("{adress: 10.0.0.1}"), 4, 8, "unknown field 'adress'; did you mean 'address'?");
	says(W("{zzzzzzzz: 10.0.0.1}"), 4, 8, "unknown field 'zzzzzzzz'");
	says(W("{address: 10.0.0.1, serviceAccount: Big}"), 4, 43,
	     "'Big' is not the name of a service account");
	says(W("{address: 10.0.0.1, labels: {'a b': x}}"), 4, 36, "'a b' is not a label key");
	says(W("{address: 10.0.0.1, labels: {a: 'x y'}}"), 4, 39,
	     "'x y' is not a label value (at most 63 letters, digits, '-', '_', '.')");
	says("apiVersion: shunt.dev/v1\nkind: Workload\nspec: {address: 10.0.0.1}\n", 1, 1,
	     "Workload has no metadata");
	says("apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: Big}\nspec: {}\n", 3, 18,
	     "'Big' is not a name (lower-case letters, digits, '-' and '.')");
}

static void an_unquoted_boolean_is_no_label_value(void **state)
{
	(void)state;
	says(W("{address: 10.0.0.1, labels: {a: yes}}"), 4, 39,
	     "a: yes without quotes is a boolean; write \"yes\"");
	says(W("{address: 10.0.0.1, labels: {a: on}}"), 4, 39,
	     "a: on without quotes is a boolean; write \"on\"");
	says(W("{address: 10.0.0.1, labels: {a: 1}}"), 4, 39,
	     "a: 1 without quotes is a number; write \"1\"");
	says(W("{address: 10.0.0.1, labels: {a: ~}}"), 4, 39,
	     "a has no value; write \"\" for an empty one");
	fine(W("{address: 10.0.0.1, labels: {a: 'yes', b: \"1\", c: 1a}}"));
}

static void switches_that_are_not_enforced_are_errors_wherever_they_stand(void **state)
{
	(void)state;
	says(W("{address: 10.0.0.1, labels: {shunt.dev/shortcut: 'off'}}"), 4, 36,
	     "'shunt.dev/shortcut' is not enforced by this version");
	says("apiVersion: shunt.dev/v1\nkind: Workload\nmetadata:\n  name: a\n  annotations:\n"
	     "    shunt.dev/on-unavailable: allow\nspec: {address: 10.0.0.1}\n",
	     6, 5, "'shunt.dev/on-unavailable' is not enforced by this version");
	says(W("{address: 10.0.0.1, labels: {shunt.dev/mode: audit}}"), 4, 36,
	     "'shunt.dev/mode' is not enforced by this version");
	says("apiVersion: shunt.dev/v1\nkind: Workload\nmetadata:\n  name: a\n  annotations:\n"
	     "    istio.io/dataplane-mode: none\nspec: {address: 10.0.0.1}\n",
	     6, 5, "'istio.io/dataplane-mode' is not enforced by this version");
	says(CNP("p, annotations: {shunt.dev/mode: audit}", API "  ingress: [{}]\n"), 3, 35,
	     "'shunt.dev/mode' is not enforced by this version");
	fine("apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: a, labels: {x: y}, "
	     "annotations: {example.com/note: hello there}}\nspec: {address: 10.0.0.1, labels: "
	     "{}}\n");
}

static void two_workloads_cannot_be_one_thing(void **state)
{
	(void)state;
	says(W("{address: 10.0.0.1}") "---\n" W("{address: 10.0.0.2}"), 8, 18,
	     "Workload default/a exists already, at conf.d/a.yaml:3");
	says(WORKLOAD("s", "a",
		      "{}") "apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: b}\n"
			    "spec: {selectors: ['netns:/run/netns/s-a']}\n",
	     9, 20, "network namespace /run/netns/s-a is also that of s/a, at conf.d/a.yaml:4");
	says(W("{address: 10.0.0.1}") "---\napiVersion: shunt.dev/v1\nkind: Workload\n"
				      "metadata: {name: b}\nspec: {address: '::ffff:10.0.0.1'}\n",
	     9, 17, "this address is also that of default/a, at conf.d/a.yaml:4");
	says(W("{addresses: [10.0.0.1, 10.0.0.1]}"), 4, 30,
	     "this address is also that of default/a, at conf.d/a.yaml:4");
}

/* ---- where the processes of a workload are ---- */

static const struct fleet_workload *only(const struct loaded *l)
{
	if (l->err != 0)
		print_findings(&l->f);
	assert_int_equal(l->err, 0);
	assert_int_equal(l->s.fleet->workload_count, 1);
	return &l->s.fleet->workloads[0];
}

static void selected(const char *text, enum selector selector, const char *what)
{
	struct loaded l = load(text);

	assert_int_equal(only(&l)->selector, selector);
	assert_string_equal(only(&l)->selected, what);
	unload(&l);
}

static void a_workload_of_the_hosts_namespace_is_a_cgroup_or_a_unit(void **state)
{
	(void)state;
	selected(W("{selectors: ['cgroup:/a.slice/b']}"), SELECTOR_CGROUP, "/a.slice/b");
	selected(W("{selectors: ['cgroup:/...']}"), SELECTOR_CGROUP, "/...");
	selected(W("{selectors: ['systemd:id:a.service']}"), SELECTOR_SYSTEMD, "a.service");
	selected(W("{selectors: ['systemd:id:a@1:2\\x2d.socket']}"), SELECTOR_SYSTEMD,
		 "a@1:2\\x2d.socket");
	selected(W("{selectors: ['systemd:id:session-1.scope']}"), SELECTOR_SYSTEMD,
		 "session-1.scope");
	selected(W("{selectors: ['systemd:id:a-b.slice']}"), SELECTOR_SYSTEMD, "a-b.slice");
}

static void only_a_path_below_the_root_is_a_cgroup(void **state)
{
	static const char *const bad[] = {"a",	   "/",	      "",    "/a/",  "//a",
					  "/a//b", "/a/../b", "/..", "/./a", "/a/."};
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), W("{selectors: ['cgroup:%s']}"), bad[i]);
		says(text, 4, 20,
		     "cgroup: takes an absolute path below the root of cgroup2 without empty, '.' "
		     "and '..' parts, such as cgroup:/system.slice/NAME.service");
	}
}

static void only_the_whole_name_of_a_unit_with_processes_is_one(void **state)
{
	static const char *const bad[] = {"a",		 "a.timer",	".service",
					  "a b.service", "a/b.service", "a@.service",
					  "@a.service",	 "-.slice",	""};
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), W("{selectors: ['systemd:id:%s']}"), bad[i]);
		says(text, 4, 20,
		     "systemd:id: takes the whole name of a .service, .socket, .scope or .slice, "
		     "such as systemd:id:NAME.service");
	}
}

#define TWO(a, b)                                                                                  \
	W("{" a "}")                                                                               \
	"---\napiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: b}\nspec: {" b "}\n"

static void a_cgroup_or_a_unit_is_one_workloads(void **state)
{
	(void)state;
	says(TWO("selectors: ['cgroup:/a']", "selectors: ['cgroup:/a']"), 9, 20,
	     "cgroup /a is also that of default/a, at conf.d/a.yaml:4");
	says(TWO("selectors: ['systemd:id:a.scope']", "selectors: ['systemd:id:a.scope']"), 9, 20,
	     "unit a.scope is also that of default/a, at conf.d/a.yaml:4");
	fine(TWO("selectors: ['cgroup:/a']", "selectors: ['cgroup:/a/b']")); /* the deepest wins */
	fine(TWO("selectors: ['cgroup:/a']", "selectors: ['netns:/a']"));
}

static void ports_are_declared_by_workloads_of_the_hosts_namespace(void **state)
{
	struct loaded l = load(W("{selectors: ['cgroup:/a'], ports: {web: 8080, http: '80'}}"));

	(void)state;
	assert_int_equal(only(&l)->port_count, 2);
	assert_int_equal(only(&l)->ports[0], 80);
	assert_int_equal(only(&l)->ports[1], 8080);
	unload(&l);
	fine(W("{selectors: ['systemd:id:a.socket'], ports: {}}"));
#define NOT_HERE                                                                                   \
	"field 'ports' is not enforced by this version for this workload; it is read for those "   \
	"of the host's namespace only (selectors cgroup: and systemd:id:)"
	says(W("{selectors: ['netns:/a'], ports: {http: 80}}"), 4, 33, NOT_HERE);
	says(W("{address: 10.0.0.1, ports: {http: 80}}"), 4, 27, NOT_HERE);
}

static void what_is_wrong_with_declared_ports_is_said(void **state)
{
#define PORTS(ports) W("{selectors: ['cgroup:/a'], ports: " ports "}")
	(void)state;
	says(PORTS("[80]"), 4, 41, "ports must be a mapping of names to numbers");
	says(PORTS("{http: 0}"), 4, 48, "'0' is not a port (1 to 65535)");
	says(PORTS("{http: 65536}"), 4, 48, "'65536' is not a port (1 to 65535)");
	says(PORTS("{http: 080}"), 4, 48, "'080' is not a port (1 to 65535)");
	says(PORTS("{http: eighty}"), 4, 48, "'eighty' is not a port (1 to 65535)");
	says(PORTS("{http: [80]}"), 4, 48, "a port must be a number");
	says(PORTS("{Http: 80}"), 4, 42,
	     "'Http' is not the name of a port (lower-case letters, digits, '-' and '.')");
	says(PORTS("{b: 80, a: 80}"), 4, 52, "port 80 is listed already, at conf.d/a.yaml:4");
	says(TWO("selectors: ['cgroup:/a'], ports: {a: 80}",
		 "selectors: ['systemd:id:b.service'], ports: {a: 8, b: 80}"),
	     9, 62, "this port is also that of default/a, at conf.d/a.yaml:4");
}

/* ---- while the daemon is away ---- */

static bool allows(const char *options, const char *text)
{
	const struct document_file files[] = {options_file(options),
					      document("conf.d/a.yaml", text)};
	struct loaded l = load_files(files, 2);
	bool allow = only(&l)->unavailable_allow;

	unload(&l);
	return allow;
}

static void on_unavailable_of_the_workload_is_narrower_than_that_of_the_mesh(void **state)
{
	(void)state;
	assert_false(allows("", W("{address: 10.0.0.1}")));
	assert_true(allows("onUnavailable: allow", W("{address: 10.0.0.1}")));
	assert_true(allows("", W("{address: 10.0.0.1, onUnavailable: allow}")));
	assert_false(allows("onUnavailable: allow", W("{address: 10.0.0.1, onUnavailable: deny}")));
}

#define LABEL(value) "labels: {shunt.dev/on-unavailable: " value "}"

static void the_label_means_the_same_as_the_field(void **state)
{
	(void)state;
	assert_true(allows("", W("{address: 10.0.0.1, " LABEL("allow") "}")));
	assert_false(allows("onUnavailable: allow", W("{address: 10.0.0.1, " LABEL("deny") "}")));
	assert_true(allows("", W("{address: 10.0.0.1, onUnavailable: allow, " LABEL("allow") "}")));
	says(W("{address: 10.0.0.1, onUnavailable: allow, " LABEL("deny") "}"), 4, 42,
	     "onUnavailable is allow, but the label shunt.dev/on-unavailable of the same meaning "
	     "is not, at conf.d/a.yaml:4");
	says(W("{address: 10.0.0.1, " LABEL("never") "}"), 4, 62,
	     "shunt.dev/on-unavailable: 'never' is not deny or allow");
}

static void our_switch_is_no_label_to_select_by(void **state)
{
	struct loaded l = load(WORKLOAD("a", "x", "{k: v, shunt.dev/on-unavailable: allow}")
				       WORKLOAD("a", "w", "{k: v}"));

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(l.s.fleet->workloads[0].label_count, 1);
	assert_int_equal(who(&l, "a/x"), who(&l, "a/w"));
	unload(&l);
}

/* ---- traffic that is left alone ---- */

static struct addr16 ip(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	return (struct addr16){.word = {htonl(a), htonl(b), htonl(c), htonl(d)}};
}

static void is_cidr(const struct exclusion *x, size_t i, struct addr16 address, unsigned bits)
{
	assert_true(i < x->cidr_count);
	assert_memory_equal(&x->cidrs[i].ip, &address, sizeof(address));
	assert_int_equal(x->cidrs[i].bits, bits);
}

static void an_exclusion_is_sorted_and_has_ipv4_mapped(void **state)
{
	struct loaded l = load(W("{address: 10.0.0.1, exclude: {ports: [9100, '22', 65535], "
				 "cidrs: ['fd00::/8', 10.0.0.0/8, 10.0.0.0/9, 192.0.2.1, "
				 "'::1', 0.0.0.0/0, '2000::/3']}}"));
	const struct exclusion *x = &only(&l)->exclude;

	(void)state;
	assert_int_equal(x->port_count, 3);
	assert_int_equal(x->ports[0], 22);
	assert_int_equal(x->ports[1], 9100);
	assert_int_equal(x->ports[2], 65535);
	assert_int_equal(x->cidr_count, 7);
	is_cidr(x, 0, ip(0, 0, 0, 1), 128);
	is_cidr(x, 1, ip(0, 0, 0xffff, 0), 96);
	is_cidr(x, 2, ip(0, 0, 0xffff, 0x0a000000), 104);
	is_cidr(x, 3, ip(0, 0, 0xffff, 0x0a000000), 105);
	is_cidr(x, 4, ip(0, 0, 0xffff, 0xc0000201), 128);
	is_cidr(x, 5, ip(0x20000000, 0, 0, 0), 3);
	is_cidr(x, 6, ip(0xfd000000, 0, 0, 0), 8);
	unload(&l);
}

#define EXCLUDE(what) W("{address: 10.0.0.1, exclude: {" what "}}")

static void what_is_wrong_with_an_exclusion_is_said(void **state)
{
	(void)state;
	says(EXCLUDE("ports: [0]"), 4, 45, "'0' is not a port (1 to 65535)");
	says(EXCLUDE("ports: [ssh]"), 4, 45, "'ssh' is not a port (1 to 65535)");
	says(EXCLUDE("ports: [22, 23, '22']"), 4, 53,
	     "port 22 is listed already, at conf.d/a.yaml:4");
	says(EXCLUDE("ports: 22"), 4, 44, "ports must be a list");
	says(EXCLUDE("cidr: []"), 4, 37, "unknown field 'cidr'; did you mean 'cidrs'?");
	says(EXCLUDE("cidrs: [10.0.0.0/33]"), 4, 45,
	     "'10.0.0.0/33' is not an address or a network (10.0.0.0/8, fd00::/8)");
	says(EXCLUDE("cidrs: [10.0.0.0/08]"), 4, 45,
	     "'10.0.0.0/08' is not an address or a network (10.0.0.0/8, fd00::/8)");
	says(EXCLUDE("cidrs: [10.0.0.0/]"), 4, 45,
	     "'10.0.0.0/' is not an address or a network (10.0.0.0/8, fd00::/8)");
	says(EXCLUDE("cidrs: ['fd00::/129']"), 4, 45,
	     "'fd00::/129' is not an address or a network (10.0.0.0/8, fd00::/8)");
	says(EXCLUDE("cidrs: [example.com]"), 4, 45,
	     "'example.com' is not an address or a network (10.0.0.0/8, fd00::/8)");
	says(EXCLUDE("cidrs: [10.1.2.3/8]"), 4, 45,
	     "'10.1.2.3/8' has bits set behind its length; write 10.0.0.0/8");
	says(EXCLUDE("cidrs: [10.1.2.3/31]"), 4, 45,
	     "'10.1.2.3/31' has bits set behind its length; write 10.1.2.2/31");
	says(EXCLUDE("cidrs: ['fd00::1/8']"), 4, 45,
	     "'fd00::1/8' has bits set behind its length; write fd00::/8");
	says(EXCLUDE("cidrs: [10.0.0.0/8, 10.0.0.0, '::ffff:10.0.0.0/104']"), 4, 67,
	     "10.0.0.0/8 is listed already, at conf.d/a.yaml:4");
}

/* IPv4 is ::ffff:a.b.c.d to the kernel programs. */
static void a_network_of_ipv6_does_not_cover_ipv4_unseen(void **state)
{
	(void)state;
	says(EXCLUDE("cidrs: ['::/0']"), 4, 45,
	     "'::/0' would cover every IPv4 address too; name the IPv6 networks that are meant, "
	     "such as 2000::/3");
	says(EXCLUDE("cidrs: ['::/80']"), 4, 45,
	     "'::/80' would cover every IPv4 address too; name the IPv6 networks that are meant, "
	     "such as 2000::/3");
	fine(EXCLUDE("cidrs: ['::/96', '8000::/1']"));
}

/* shunt.yaml that excludes so many ports and networks. */
static struct loaded excluding(int ports, int cidrs)
{
	char *text = malloc(40 * (size_t)(ports + cidrs) + 100);
	size_t n = (size_t)sprintf(text, "exclude:\n  ports: [");
	struct document_file f;
	struct loaded l;

	for (int i = 1; i <= ports; i++)
		n += (size_t)sprintf(text + n, "%d, ", i);
	n += (size_t)sprintf(text + n, "]\n  cidrs: [");
	for (int i = 1; i <= cidrs; i++)
		n += (size_t)sprintf(text + n, "10.0.%d.%d, ", i / 256, i % 256);
	sprintf(text + n, "]\n");
	f = options_file(text);
	l = load_files(&f, 1);
	free(text);
	return l;
}

static void lists_of_an_exclusion_are_bounded(void **state)
{
	struct loaded l = excluding(1024, 1024);

	(void)state;
	assert_int_equal(l.err, 0);
	unload(&l);
	l = excluding(1025, 1);
	assert_true(found(&l.f, FINDING_ERROR, 2, "more than 1024 ports in one list"));
	unload(&l);
	l = excluding(1, 1025);
	assert_true(found(&l.f, FINDING_ERROR, 3, "more than 1024 networks in one list"));
	unload(&l);
}

static void the_exclusion_of_the_workload_is_narrower_than_that_of_the_mesh(void **state)
{
	static const char text[] = TWO("address: 10.0.0.1", "address: 10.0.0.2, exclude: {}");
	const struct document_file files[] = {options_file("exclude: {ports: [22]}\n"),
					      document("conf.d/a.yaml", text)};
	struct loaded l = load_files(files, 2);

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(l.s.fleet->workloads[0].exclude.port_count, 1);
	assert_int_equal(l.s.fleet->workloads[0].exclude.ports[0], 22);
	assert_int_equal(l.s.fleet->workloads[1].exclude.port_count, 0);
	unload(&l);
}

#define LISTENER(what) "listeners: [{" what "}]\n"
#define LISTENER_OF(workload)                                                                      \
	LISTENER("address: 127.0.0.1, port: 8080, workload: " workload ", upstream: "              \
		 "'10.0.0.1:80'")

static struct loaded listening(const char *options)
{
	const struct document_file files[] = {
		options_file(options),
		document("conf.d/a.yaml", WORKLOAD("shop", "a", "{app: a}"))};

	return load_files(files, 2);
}

static void a_listener_speaks_for_a_workload(void **state)
{
	struct loaded l = listening(
		"listeners:\n"
		"- {address: 127.0.0.1, port: 8080, workload: shop/a, upstream: \"10.0.0.1:80\"}\n"
		"- {address: \"::1\", port: \"81\", workload: shop/a, upstream: "
		"\"[fd00::1]:8\"}\n");
	const struct fleet_listener *x;

	(void)state;
	print_findings(&l.f);
	assert_int_equal(l.err, 0);
	assert_int_equal(l.s.fleet->listener_count, 2);
	x = l.s.fleet->listeners;
	assert_int_equal(x[0].at.family, AF_INET);
	assert_int_equal(ntohs(x[0].at.port), 8080);
	assert_int_equal(ntohs(x[0].upstream.port), 80);
	assert_int_equal(x[0].upstream.ip.word[3], htonl(0x0a000001));
	assert_string_equal(x[0].workload->name, "a");
	assert_int_equal(x[1].at.family, AF_INET6);
	assert_int_equal(x[1].at.ip.word[3], htonl(1));
	assert_int_equal(ntohs(x[1].upstream.port), 8);
	assert_int_equal(x[1].upstream.family, AF_INET6);
	unload(&l);
}

static void a_listener_that_cannot_be_is_refused(void **state)
{
	static const struct {
		const char *options, *text;
	} wrong[] = {
		{LISTENER_OF("shop/nobody"), "no Workload document names shop/nobody"},
		{LISTENER_OF("a"), "no Workload document names default/a"},
		{LISTENER_OF("shop/A"), "'shop/A' is not NAMESPACE/NAME"},
		{LISTENER("address: 127.0.0.1"), "a listener needs 'port'"},
		{LISTENER("address: 1, port: 8, workload: shop/a, upstream: 'a'"), "is a number"},
		{LISTENER("address: x, port: 8, workload: shop/a, upstream: '1.1.1.1:1'"),
		 "'x' is not an IP address"},
		{LISTENER("address: ::1, port: 0, workload: shop/a, upstream: '1.1.1.1:1'"),
		 "is not a port"},
		{LISTENER("address: ::1, port: 1, workload: shop/a, upstream: '1.1.1.1'"),
		 "is not ADDRESS:PORT"},
		{LISTENER("address: ::1, port: 1, workload: shop/a, upstream: '1.1.1.1:0'"),
		 "is not ADDRESS:PORT"},
		{LISTENER("address: ::1, port: 1, workload: shop/a, upstream: 'fd00::1:80'"),
		 "is not ADDRESS:PORT"},
		{LISTENER("address: ::1, port: 1, workload: shop/a, upstream: '[fd00::1]'"),
		 "is not ADDRESS:PORT"},
		{LISTENER("adress: ::1"), "did you mean 'address'?"},
		{"listeners: {}\n", "listeners must be a list"},
		{"listners: []\n", "did you mean 'listeners'?"},
		{"capture: no\n", "'no' is not on or off"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct loaded l = listening(wrong[i].options);

		assert_int_equal(l.err, -EINVAL);
		assert_true(found(&l.f, FINDING_ERROR, 1, wrong[i].text));
		unload(&l);
	}
}

static void two_listeners_of_one_place_are_refused(void **state)
{
	struct loaded l = listening(
		"listeners:\n"
		"- {address: 127.0.0.1, port: 8080, workload: shop/a, upstream: \"10.0.0.1:80\"}\n"
		"- {address: 127.0.0.1, port: 8080, workload: shop/a, upstream: "
		"\"10.0.0.1:81\"}\n");

	(void)state;
	assert_int_equal(l.err, -EINVAL);
	assert_true(found(&l.f, FINDING_ERROR, 3, "also those of the listener at shunt.yaml:2"));
	unload(&l);
}

/* What `shunt workload add` completes. */
static void a_workload_that_is_nobody_yet_is_warned_about(void **state)
{
	(void)state;
	warns(W("{labels: {app: a}}"), 4, "nobody is this workload");
}

static void labels_one_level_too_high_are_warned_about(void **state)
{
	(void)state;
	warns("apiVersion: shunt.dev/v1\nkind: Workload\nmetadata: {name: a, labels: {app: a}}\n"
	      "spec: {address: 10.0.0.1}\n",
	      3, "policies select a Workload by spec.labels, not by metadata.labels");
}

static char *many(size_t n, const char *selector, const char *tail)
{
	size_t size = n * 160 + 1000, len = 0;
	char *text = malloc(size);

	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, size - len,
					"apiVersion: shunt.dev/v1\nkind: Workload\n"
					"metadata: {name: w%zu, namespace: shop}\n"
					"spec: {labels: {app: a%zu}, %s%zu']}\n---\n",
					i, i, selector, i);
	snprintf(text + len, size - len, "%s", tail);
	return text;
}

static void more_workloads_than_the_node_has_places_for_are_refused(void **state)
{
	char *text = many(WORKLOADS_MAX + 1, "selectors: ['netns:/n/", "");
	struct loaded l = load(text);

	(void)state;
	assert_int_equal(l.err, -EINVAL);
	assert_int_equal(l.f.errors, 1);
	assert_string_equal(l.f.items[0].text, "more than 16384 workloads on one node");
	unload(&l);
	free(text);
}

static void policies_that_the_kernels_map_has_no_room_for_are_refused(void **state)
{
	static const char all[] = CNP("p", "  endpointSelector: {}\n"
					   "  ingress: [{fromEndpoints: [{}]}]\n");
	char *text = many(260, "selectors: ['netns:/n/", all);
	struct loaded l = load(text);

	(void)state;
	assert_int_equal(l.err, -EINVAL);
	assert_true(found(&l.f, FINDING_ERROR, 260 * 5 + 1, "more than 65536 entries"));
	unload(&l);
	free(text);
	text = many(260, "addresses: ['fd00::", all); /* remote ones need no entries */
	fine(text);
	free(text);
}

/* ---- namespaces ---- */

#define SPACE(metadata, spec)                                                                      \
	"apiVersion: v1\nkind: Namespace\nmetadata: {" metadata "}\nspec: {" spec "}\n"

static void a_namespace_as_kubectl_prints_it_is_read(void **state)
{
	(void)state;
	fine("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  uid: x\n"
	     "  creationTimestamp: null\n  annotations: {a.b/c: d e}\n"
	     "  labels: {kubernetes.io/metadata.name: shop, team: a}\n"
	     "spec: {finalizers: [kubernetes]}\nstatus: {phase: Active}\n");
	fine("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
}

static void what_is_wrong_with_a_namespace_is_said(void **state)
{
	(void)state;
	says(SPACE("name: a, namespace: b", ""), 3, 21,
	     "a Namespace lies in no namespace; leave metadata.namespace out");
	says(SPACE("name: a, labels: {kubernetes.io/metadata.name: b}", ""), 3, 59,
	     "label kubernetes.io/metadata.name is the name of the namespace, 'a'; it cannot be "
	     "'b'");
	says(SPACE("name: a, labels: {team: 'a b'}", ""), 3, 36,
	     "'a b' is not a label value (at most 63 letters, digits, '-', '_', '.')");
	says(SPACE("name: A", ""), 3, 18,
	     "'A' is not a name (lower-case letters, digits, '-' and '.')");
	says(SPACE("labels: {}", ""), 3, 11, "metadata has no name");
	says("apiVersion: v1\nkind: Namespace\n", 1, 1, "Namespace has no metadata");
	says(SPACE("name: a", "exlude: {}"), 4, 8,
	     "unknown field 'exlude'; did you mean 'exclude'?");
	says(SPACE("name: a", "exclude: {ports: [0]}"), 4, 26, "'0' is not a port (1 to 65535)");
	says(SPACE("name: a, labels: {shunt.dev/shortcut: on}", ""), 3, 30,
	     "'shunt.dev/shortcut' is not enforced by this version");
	says(SPACE("name: a, labels: {istio.io/dataplane-mode: ambient}", ""), 3, 30,
	     "'istio.io/dataplane-mode' is not enforced by this version");
	says(SPACE("name: a, annotations: {shunt.dev/on-unavailable: allow}", ""), 3, 35,
	     "'shunt.dev/on-unavailable' is not enforced by this version");
	says(SPACE("name: a, labels: {shunt.dev/on-unavailable: 'yes'}", ""), 3, 56,
	     "shunt.dev/on-unavailable: 'yes' is not deny or allow");
	says(SPACE("name: a", "") "---\n" SPACE("name: a", ""), 8, 18,
	     "Namespace a exists already, at conf.d/a.yaml:3");
	says("apiVersion: v1\nkind: Namespce\nmetadata: {name: a}\n", 2, 7,
	     "unknown kind 'Namespce' of v1; did you mean 'Namespace'?");
}

static void labels_of_a_namespace_are_part_of_the_identity(void **state)
{
	struct loaded none = load(WORKLOAD("a", "x", "{k: v}"));
	struct loaded bare = load(NAMESPACE("a", "{}", "{}") WORKLOAD("a", "x", "{k: v}"));
	struct loaded one = load(NAMESPACE("a", "{team: b}", "{}") WORKLOAD("a", "x", "{k: v}"));
	struct loaded two = load(WORKLOAD("a", "x", "{k: v}") NAMESPACE("a", "{team: c}", "{}"));
	struct loaded other = load(NAMESPACE("b", "{team: b}", "{}") WORKLOAD("a", "x", "{k: v}"));
	struct loaded own = load(WORKLOAD("a", "x", "{k: v, team: b}"));

	(void)state;
	assert_int_equal(who(&none, "a/x"), who(&bare, "a/x"));
	assert_int_equal(who(&none, "a/x"), who(&other, "a/x"));
	assert_int_not_equal(who(&none, "a/x"), who(&one, "a/x"));
	assert_int_not_equal(who(&one, "a/x"), who(&two, "a/x"));
	assert_int_not_equal(who(&one, "a/x"), who(&own, "a/x"));
	assert_int_equal(one.s.fleet->workloads[0].label_count, 1); /* spec.labels only */
	unload(&none);
	unload(&bare);
	unload(&one);
	unload(&two);
	unload(&other);
	unload(&own);
}

/* Else it could pass for one of a namespace that has the label. */
static void a_workload_cannot_give_itself_the_labels_of_a_namespace(void **state)
{
#define MADE(label) W("{address: 10.0.0.1, labels: {" label ": b}}")
	(void)state;
	says(MADE("io.cilium.k8s.namespace.labels.team"), 4, 36,
	     "label 'io.cilium.k8s.namespace.labels.team' is made from the namespace and the "
	     "account; it cannot be given");
	says(MADE("io.kubernetes.pod.namespace"), 4, 36,
	     "label 'io.kubernetes.pod.namespace' is made from the namespace and the account; it "
	     "cannot be given");
	says(MADE("io.cilium.k8s.policy.serviceaccount"), 4, 36,
	     "label 'io.cilium.k8s.policy.serviceaccount' is made from the namespace and the "
	     "account; it cannot be given");
}

#define ALLOWING(space) SPACE("name: default, labels: {shunt.dev/on-unavailable: " space "}", "")

static void on_unavailable_of_the_namespace_lies_between_workload_and_mesh(void **state)
{
	(void)state;
	assert_true(allows("", ALLOWING("allow") "---\n" W("{address: 10.0.0.1}")));
	assert_true(allows("", W("{address: 10.0.0.1}") "---\n" ALLOWING("allow")));
	assert_false(
		allows("onUnavailable: allow", ALLOWING("deny") "---\n" W("{address: 10.0.0.1}")));
	assert_false(allows("", ALLOWING("allow") "---\n" W("{address: 10.0.0.1, "
							    "onUnavailable: deny}")));
	assert_true(allows("onUnavailable: allow",
			   SPACE("name: default", "") "---\n" W("{address: 10.0.0.1}")));
	assert_false(allows("", SPACE("name: other, labels: {shunt.dev/on-unavailable: allow}",
				      "") "---\n" W("{address: 10.0.0.1}")));
}

static void the_exclusion_of_the_namespace_lies_between_workload_and_mesh(void **state)
{
	static const char options[] = "exclude: {ports: [1], cidrs: [10.0.0.0/8]}\n";
	static const char text[] = NAMESPACE("b", "{}", "{exclude: {ports: [2, 3]}}")
		NAMESPACE("c", "{}", "{}") WORKLOAD("a", "x", "{}") WORKLOAD("b", "x", "{}")
			WORKLOAD("c", "x", "{}") "apiVersion: shunt.dev/v1\nkind: Workload\n"
						 "metadata: {name: z, namespace: b}\n"
						 "spec: {address: 10.0.0.1, exclude: {}}\n";
	static const size_t ports[] = {1, 2, 0, 1}, cidrs[] = {1, 0, 0, 1}; /* a/x b/x b/z c/x */
	const struct document_file files[] = {options_file(options),
					      document("conf.d/a.yaml", text)};
	struct loaded l = load_files(files, 2);

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(l.s.fleet->workload_count, 4);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(l.s.fleet->workloads[i].exclude.port_count, ports[i]);
		assert_int_equal(l.s.fleet->workloads[i].exclude.cidr_count, cidrs[i]);
	}
	assert_int_equal(l.s.fleet->workloads[1].exclude.ports[0], 2);
	unload(&l);
}

/* ---- kinds ---- */

#define KIND(api, kind) "apiVersion: " api "\nkind: " kind "\nmetadata: {name: a}\nspec: {}\n"

static void a_known_kind_that_is_not_enforced_is_an_error(void **state)
{
	(void)state;
	says(KIND("networking.k8s.io/v1", "NetworkPolicy"), 2, 7,
	     "kind NetworkPolicy is not enforced by this version");
	says(KIND("cilium.io/v2", "CiliumClusterwideNetworkPolicy"), 2, 7,
	     "kind CiliumClusterwideNetworkPolicy is not enforced by this version");
	says(KIND("security.istio.io/v1", "AuthorizationPolicy"), 2, 7,
	     "kind AuthorizationPolicy is not enforced by this version");
	says(KIND("security.istio.io/v1beta1", "PeerAuthentication"), 2, 7,
	     "kind PeerAuthentication is not enforced by this version");
	says(KIND("v1", "Service"), 2, 7, "kind Service is not enforced by this version");
}

static void a_foreign_kind_is_passed_over_with_a_warning(void **state)
{
	(void)state;
	warns(KIND("apps/v1", "Deployment"), 2,
	      "kind Deployment (apps/v1) is not one that shunt reads; passed over");
	warns(KIND("serving.knative.dev/v1", "Service"), 2, "passed over");
	warns(KIND("crd.projectcalico.org/v1", "NetworkPolicy"), 2, "passed over");
}

static void a_misspelt_kind_of_ours_is_no_foreign_one(void **state)
{
	(void)state;
	says(KIND("shunt.dev/v1", "Worklaod"), 2, 7,
	     "unknown kind 'Worklaod'; did you mean 'Workload'?");
	says(KIND("shunt.dev/v1", "Ingress"), 2, 7, "unknown kind 'Ingress'");
	says(KIND("cilium.io/v2", "CiliumNetworkpolicy"), 2, 7,
	     "unknown kind 'CiliumNetworkpolicy' of cilium.io/v2; did you mean "
	     "'CiliumNetworkPolicy'?");
	says(KIND("cilum.io/v2", "CiliumNetworkPolicy"), 1, 13,
	     "apiVersion 'cilum.io/v2' of CiliumNetworkPolicy is not read; did you mean "
	     "'cilium.io/v2'?");
	says(KIND("shunt.dev/v2", "Workload"), 1, 13,
	     "apiVersion 'shunt.dev/v2' of Workload is not read; did you mean 'shunt.dev/v1'?");
}

static void a_document_needs_a_kind(void **state)
{
	(void)state;
	says("kind: Workload\n", 1, 1,
	     "a document needs apiVersion (is this shunt.yaml's content? that belongs at the top "
	     "of "
	     "the folder)");
	says("- a\n", 1, 1, "a document must be a mapping with apiVersion and kind");
}

static void a_list_is_read_item_by_item(void **state)
{
	(void)state;
	says("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n", 5, 9,
	     "kind Service is not enforced by this version");
}

/* ---- CiliumNetworkPolicy ---- */

static void a_policy_as_users_write_them_is_read(void **state)
{
	(void)state;
	fine("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: p\n"
	     "  namespace: shop\n  uid: x\n  creationTimestamp: null\n  annotations: {a.b/c: d e}\n"
	     "specs:\n- description: anything goes\n  labels: [{key: a}]\n  endpointSelector: {}\n"
	     "  ingress: [{}]\n- endpointSelector: {}\n  egress:\n  - toEndpoints: [{}]\n"
	     "    toPorts: []\n  - toPorts: [{ports: []}]\n  - toPorts: [{rules: {}}]\n"
	     "status: {conditions: []}\n");
}

/* The rule is on line 6, from column 6. */
#define IN(rule) CNP("p", API "  ingress:\n  - " rule "\n")
#define LATER(field) "field '" field "' is not enforced by this version"

static void fields_that_are_not_enforced_are_errors(void **state)
{
	(void)state;
	says(CNP("p", API "  ingressDeny: [{}]\n"), 6, 3, LATER("ingressDeny"));
	says(CNP("p", API "  ingress: [{}]\n  enableDefaultDeny: {ingress: false}\n"), 7, 3,
	     LATER("enableDefaultDeny"));
	says(CNP("p", "  nodeSelector: {}\n  ingress: [{}]\n"), 5, 3, LATER("nodeSelector"));
	says(IN("fromCIDR: [10.0.0.0/8]"), 7, 5, LATER("fromCIDR"));
	says(IN("fromEntities: [host]"), 7, 5, LATER("fromEntities"));
	says(IN("icmps: []"), 7, 5, LATER("icmps"));
	says(IN("authentication: {mode: required}"), 7, 5, LATER("authentication"));
	says(CNP("p", API "  egress:\n  - toFQDNs: [{matchName: a.b}]\n"), 7, 5, LATER("toFQDNs"));
	says(CNP("p", API "  egress:\n  - toServices: []\n"), 7, 5, LATER("toServices"));
	says(IN("toPorts: [{ports: [{port: '1', endPort: 2}]}]"), 7, 36, LATER("endPort"));
	says(IN("toPorts: [{rules: {dns: []}}]"), 7, 24, LATER("dns"));
	says(IN("toPorts: [{rules: {kafka: []}}]"), 7, 24, LATER("kafka"));
	says(IN("toPorts: [{terminatingTLS: {}}]"), 7, 16, LATER("terminatingTLS"));
	says(IN("fromRequires: []"), 7, 5,
	     "field 'fromRequires' was removed from this kind and is not enforced");
	says(IN("toPorts: [{ports: [{port: http}]}]"), 7, 31,
	     "named port 'http' is not enforced by this version");
	says(IN("toPorts: [{ports: [{port: 53, protocol: UDP}]}]"), 7, 45,
	     "protocol UDP is not enforced by this version");
	says(IN("toPorts: [{ports: [{port: 53, protocol: TCP}], rules: {http: [{}]}}]"), 7, 60,
	     "http rules on port 53 are not enforced by this version");
	says(IN("fromEndpoints: [{matchLabels: {reserved:init: ''}}]"), 7, 36,
	     "'reserved:init' is not enforced by this version");
	says(IN("fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.cluster: a}}]"), 7, 36,
	     "'io.cilium.k8s.policy.cluster' is not enforced by this version");
	says(IN("fromEndpoints: [{matchLabels: {container:a: b}}]"), 7, 36,
	     "'container:a': a label source other than k8s:, any: and reserved: is not enforced by "
	     "this version");
}

static void an_unknown_field_is_an_error_with_the_nearest_name(void **state)
{
	(void)state;
	says(IN("fromEndpoint: [{}]"), 7, 5,
	     "unknown field 'fromEndpoint'; did you mean 'fromEndpoints'?");
	says(IN("toEndpoints: [{}]"), 7, 5,
	     "unknown field 'toEndpoints'; did you mean 'fromEndpoints'?");
	says(CNP("p", API "  ingres: [{}]\n"), 6, 3,
	     "unknown field 'ingres'; did you mean 'ingress'?");
	says(IN("toPorts: [{ports: [{prot: 80}]}]"), 7, 25,
	     "unknown field 'prot'; did you mean 'port'?");
	says(IN("toPorts: [{rules: {http: [{pathh: a}]}}]"), 7, 32,
	     "unknown field 'pathh'; did you mean 'path'?");
	says(IN("fromEndpoints: [{matchlabels: {}}]"), 7, 22,
	     "unknown field 'matchlabels'; did you mean 'matchLabels'?");
}

static void a_rule_that_could_mean_more_than_it_says_is_refused(void **state)
{
	(void)state;
	says(IN("fromEndpoints:"), 7, 5,
	     "field 'fromEndpoints' has no value; leave it out or give it one ([] is an empty "
	     "list)");
	says(CNP("p", API "  ingress: []\n"), 6, 3,
	     "ingress is empty; write '- {}' below it to deny everything that no rule allows, or "
	     "leave it out");
	says(CNP("p", API), 5, 3, "neither ingress nor egress");
	says(CNP("p", "  ingress: [{}]\n"), 5, 3,
	     "endpointSelector is missing ({} selects every endpoint of the namespace)");
	says(CNP("p", "  endpointSelector:\n  ingress: [{}]\n"), 5, 3,
	     "field 'endpointSelector' has no value; leave it out or give it one ([] is an empty "
	     "list)");
	says(IN("toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{path: ''}]}}]"), 7,
	     74, "path is empty; leave it out to allow any");
	says(CNP("p", "  endpointSelector: {matchLabels: {k8s:io.kubernetes.pod.namespace: x}}\n"
		      "  ingress: [{}]\n"),
	     5, 69,
	     "endpointSelector names namespace 'x', but a policy selects endpoints of its own "
	     "namespace 'shop' only");
	says("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\n", 1, 1,
	     "CiliumNetworkPolicy has no spec");
	says(IN("fromEndpoints: [{matchLabels: {reserved:host: '', a: b}}]"), 7, 21,
	     "reserved: labels and others in one selector can never match");
}

static void expressions_of_selectors_are_checked(void **state)
{
	(void)state;
	says(IN("fromEndpoints: [{matchExpressions: [{key: a, operator: in, values: [b]}]}]"), 7,
	     60, "unknown operator 'in'; did you mean 'In'? (In, NotIn, Exists, DoesNotExist)");
	says(IN("fromEndpoints: [{matchExpressions: [{key: a, operator: In}]}]"), 7, 60,
	     "this operator needs values");
	says(IN("fromEndpoints: [{matchExpressions: [{key: a, operator: In, values: []}]}]"), 7, 72,
	     "this operator needs values");
	says(IN("fromEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]"),
	     7, 76, "this operator takes no values");
	says(IN("fromEndpoints: [{matchExpressions: [{key: a}]}]"), 7, 41,
	     "an expression needs an operator");
	says(IN("fromEndpoints: [{matchLabels: {a: true}}]"), 7, 39,
	     "a: true without quotes is a boolean; write \"true\"");
}

static void ports_are_checked(void **state)
{
	(void)state;
	says(IN("toPorts: [{ports: [{port: 65536}]}]"), 7, 31,
	     "'65536' is not a port (0 to 65535)");
	says(IN("toPorts: [{ports: [{port: '-1'}]}]"), 7, 31,
	     "named port '-1' is not enforced by this version");
	says(IN("toPorts: [{ports: [{port: '080'}]}]"), 7, 31, "'080' is not a port (0 to 65535)");
	says(IN("toPorts: [{ports: [{protocol: TCP}]}]"), 7, 24, "a port is missing");
	says(IN("toPorts: [{ports: [{port: 1, protocol: TPC}]}]"), 7, 44,
	     "unknown protocol 'TPC' (TCP or ANY)");
	says(IN("toPorts: {ports: []}"), 7, 14, "toPorts must be a list");
	says(IN("toPorts: [{ports: [{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, "
		"{}, {}, "
		"{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, "
		"{}, {}, "
		"{}, {}]}]"),
	     7, 23, "more than 40 ports in one list");
}

static void http_rules_ask_for_tcp_ports_with_numbers(void **state)
{
	(void)state;
	says(IN("toPorts: [{rules: {http: [{}]}}]"), 7, 24,
	     "http rules need ports, each with a number");
	says(IN("toPorts: [{ports: [{port: 0, protocol: TCP}], rules: {http: [{}]}}]"), 7, 59,
	     "http rules need ports, each with a number");
	says(IN("toPorts: [{ports: [{port: 80}], rules: {http: [{}]}}]"), 7, 45,
	     "http rules need protocol: TCP on every port of the entry (the default is ANY)");
}

static void patterns_and_headers_are_checked(void **state)
{
	(void)state;
#define HTTP(rule)                                                                                 \
	IN("toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: [{" rule "}]}}]")
	says(HTTP("path: '/a('"), 7, 74, "path '/a(' is not an expression: missing ): /a(");
	says(HTTP("method: 'a(?=b)'"), 7, 76,
	     "method 'a(?=b)' is not an expression: invalid perl operator: (?=");
	says(HTTP("path: 1"), 7, 74, "path: 1 without quotes is a number; write \"1\"");
	says(HTTP("headers: ['a b: c', ': d']"), 7, 88,
	     "'' is not the name of a header (write 'Name: value' or 'Name')");
	says(HTTP("headers: ['Content-Length: 5']"), 7, 78,
	     "header 'Content-Length' belongs to the connection; rules on it are not enforced");
}

static void one_policy_has_one_place(void **state)
{
	(void)state;
	says(CNP("p", API "  ingress: [{}]\n---\n") CNP("p", API "  ingress: [{}]\n"), 10, 18,
	     "CiliumNetworkPolicy shop/p exists already, at conf.d/a.yaml:3");
}

static void everything_that_is_wrong_is_said_at_once_in_order(void **state)
{
	static const char a[] = "apiVersion: v1\nkind: Service\n---\nkind: X\n---\na: [\n";
	static const char b[] = "workerz: 2\nslots: 3\n";
	const struct document_file files[] = {options_file(b), document("a.yaml", a),
					      document("b.yaml", "x: *y\n")};
	struct loaded l = load_files(files, 3);

	(void)state;
	assert_int_equal(l.err, -EINVAL);
	assert_int_equal(l.f.errors, 6);
	assert_int_equal(l.f.count, 6);
	assert_string_equal(l.f.items[0].where.file, "shunt.yaml");
	assert_string_equal(l.f.items[0].text, "unknown option 'workerz'; did you mean 'workers'?");
	assert_string_equal(l.f.items[1].text,
			    "option 'slots': '3' is not a whole number in range");
	assert_string_equal(l.f.items[2].text, "kind Service is not enforced by this version");
	assert_string_equal(l.f.items[2].excerpt, "kind: Service");
	assert_int_equal(l.f.items[3].where.line, 4);
	assert_true(strncmp(l.f.items[4].text, "YAML: ", 6) == 0);
	assert_string_equal(l.f.items[5].where.file, "b.yaml");
	unload(&l);
}

static void a_terminal_is_not_driven_by_a_document(void **state)
{
	struct loaded l = load("apiVersion: v1\nkind: \"\\e[31m\"\nx: \t y\n");

	(void)state;
	for (size_t i = 0; i < l.f.count; i++) {
		assert_null(strchr(l.f.items[i].text, 27));
		assert_true(l.f.items[i].excerpt == NULL ||
			    strpbrk(l.f.items[i].excerpt, "\t\033") == NULL);
	}
	unload(&l);
}

static void findings_are_bounded(void **state)
{
	char *text = malloc(3000 * 20 + 100);
	size_t n = 0;
	struct loaded l;

	(void)state;
	for (int i = 0; i < 3000; i++)
		n += (size_t)sprintf(text + n, "k%d: *a\n", i);
	l = load(text);
	assert_int_equal(l.err, -EINVAL);
	assert_int_equal(l.f.errors, 3000);
	assert_int_equal(l.f.count, 1000);
	unload(&l);
	free(text);
}

static void no_documents_at_all_are_a_valid_configuration(void **state)
{
	struct loaded l = load_files(NULL, 0);

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(l.f.count, 0);
	assert_int_equal(l.s.fleet->workload_count, 0);
	unload(&l);
	fine("");
	fine("---\n---\n# nothing\n---\n~\n");
}

/* ---- options ---- */

static struct loaded load_options(const char *text)
{
	struct document_file f = options_file(text);

	return load_files(&f, 1);
}

static void options_have_defaults(void **state)
{
	struct loaded l = load_options("");
	const struct options *o = &l.s.options;

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(o->workers, 0);
	assert_int_equal(o->slots, SLOTS_DEFAULT);
	assert_int_equal(o->event_rate, 100);
	assert_int_equal(o->connect_timeout, 5000);
	assert_int_equal(o->response_timeout, 0);
	assert_false(o->via);
	assert_int_equal(o->forwarded, FORWARDED_OFF);
	assert_int_equal(o->head_timeout, 30000);
	assert_int_equal(o->head_size, codec_limits_default.head);
	assert_int_equal(o->head_fields, codec_limits_default.fields);
	assert_int_equal(o->target_size, codec_limits_default.target);
	assert_int_equal(o->body_rate, 0);
	assert_int_equal(o->max_pipelined, 256);
	assert_int_equal(o->heads_per_workload, 1000);
	assert_int_equal(o->buffer_per_workload, 67108864);
	assert_string_equal(o->trust_domain, "cluster.local");
	assert_string_equal(o->metrics_address, "127.0.0.1:15020");
	assert_string_equal(o->access_log, "/var/log/shunt/access.log");
	assert_false(o->access_log_query);
	assert_int_equal(o->slots_per_workload, 0);
	assert_int_equal(o->drain_timeout, 30000);
	assert_string_equal(o->readiness_address, ":15021");
	assert_false(o->unavailable_allow);
	unload(&l);
}

static void options_are_read(void **state)
{
	struct loaded l = load_options("workers: 3\nslots: 256\neventRate: 7\nconnectTimeout: "
				       "500ms\nresponseTimeout: 15m\nrequestHeadTimeout: 2m\n"
				       "trustDomain: example.org\nmetrics:\n  address: "
				       "'[::1]:9'\naccessLog: {path: off, query: "
				       "true}\nonUnavailable: allow\nslotsPerWorkload: 256\n"
				       "drainTimeout: 0s\nreadiness: {address: off}\n"
				       "via: on\nforwarded: x-forwarded\n");
	const struct options *o = &l.s.options;

	(void)state;
	assert_int_equal(l.err, 0);
	assert_int_equal(o->workers, 3);
	assert_int_equal(o->slots, 256);
	assert_int_equal(o->event_rate, 7);
	assert_int_equal(o->connect_timeout, 500);
	assert_int_equal(o->response_timeout, 900000);
	assert_true(o->via);
	assert_int_equal(o->forwarded, FORWARDED_X);
	assert_int_equal(o->head_timeout, 120000);
	assert_string_equal(o->trust_domain, "example.org");
	assert_string_equal(o->metrics_address, "[::1]:9");
	assert_string_equal(o->access_log, "");
	assert_true(o->access_log_query);
	assert_true(o->unavailable_allow);
	assert_int_equal(o->slots_per_workload, 256);
	assert_int_equal(o->drain_timeout, 0);
	assert_string_equal(o->readiness_address, "");
	unload(&l);
	l = load_options("readiness: {address: '127.0.0.1:1'}\nonUnavailable: deny\n");
	assert_string_equal(l.s.options.readiness_address, "127.0.0.1:1");
	assert_false(l.s.options.unavailable_allow);
	unload(&l);
}

static void option_error(const char *text, const char *error)
{
	struct loaded l = load_options(text);

	assert_int_equal(l.err, -EINVAL);
	assert_true(found(&l.f, FINDING_ERROR, 1, error));
	unload(&l);
}

static void what_is_wrong_with_an_option_is_said(void **state)
{
	(void)state;
	option_error("slots: 300", "option 'slots': '300' is not a power of two");
	option_error("slots: 524288", "is not a whole number in range");
	option_error("slots: 128", "is not a whole number in range");
	option_error("workers: -1", "is not a whole number in range");
	option_error("connectTimeout: 5", "'5' is not a duration of at most 1h");
	option_error("connectTimeout: 0s", "is not a duration");
	option_error("connectTimeout: 2h", "is not a duration");
	option_error("metrics: {address: 15020}", "is not ADDRESS:PORT");
	option_error("metrics: {address: '127.0.0.1:0'}", "is not ADDRESS:PORT");
	option_error("metrics: {adress: x}", "unknown option 'metrics.adress'; did you mean "
					     "'metrics.address'?");
	option_error("metrics: 1", "option 'metrics' must be a mapping of options");
	option_error("accessLog: {path: log}", "is not an absolute path or off");
	option_error("accessLog: {query: maybe}", "is not true or false");
	option_error("trustDomain: Example", "is not lower-case letters");
	option_error("forwarded: both", "'both' is not off, forwarded or x-forwarded");
	option_error("via: shunt", "'shunt' is not on or off");
	option_error("onUnavailable: no", "option 'onUnavailable': 'no' is not deny or allow");
	option_error("slotsPerWorkload: 262145", "is not a whole number in range");
	option_error("slotsPerWorkload: 65537",
		     "option 'slotsPerWorkload': '65537' is more than there are slots");
	option_error("{slotsPerWorkload: 512, slots: 256}", "'512' is more than there are slots");
	option_error("slotPerWorkload: 1", "did you mean 'slotsPerWorkload'?");
	option_error("drainTimeout: 30", "'30' is not a duration of at most 1h");
	option_error("drainTimout: 30s", "did you mean 'drainTimeout'?");
	option_error("readiness: {address: ':0'}",
		     "is not ADDRESS:PORT, [IPv6]:PORT, :PORT or off");
	option_error("readiness: {address: '15021'}", "is not ADDRESS:PORT");
	option_error("readiness: {adress: off}", "did you mean 'readiness.address'?");
	option_error("metrics: {address: ':15020'}", "is not ADDRESS:PORT, [IPv6]:PORT or off");
	option_error("exclud: {}", "unknown option 'exclud'; did you mean 'exclude'?");
	option_error("exclude:", "option 'exclude' must be a mapping of lists");
	option_error("exclude: [22]", "exclude must be a mapping (field: value)");
	option_error("exclude: {port: [22]}", "unknown field 'port'; did you mean 'ports'?");
	option_error("mtls: {mode: STRICT}", "option 'mtls' is not enforced by this version");
	option_error("readiness: 1", "option 'readiness' must be a mapping of options");
	option_error("workers: [1]", "option 'workers' must be a single value");
	option_error("- a", "shunt.yaml must be a mapping of options");
	option_error("a:\n", "unknown option 'a'");
}

static void every_option_has_a_default_that_is_valid_and_words(void **state)
{
	const struct schema_option *o;

	(void)state;
	for (size_t i = 0; (o = schema_options(i)) != NULL; i++) {
		char text[256];
		const char *dot = strchr(o->name, '.');
		struct loaded l;

		assert_true(strlen(o->help) > 10);
		if (dot == NULL)
			snprintf(text, sizeof(text), "%s: %s\n", o->name, o->fallback);
		else
			snprintf(text, sizeof(text), "%.*s: {%s: '%s'}\n", (int)(dot - o->name),
				 o->name, dot + 1, o->fallback);
		l = load_options(text);
		if (l.err != 0)
			print_findings(&l.f);
		assert_int_equal(l.err, 0);
		unload(&l);
	}
}

/* ---- memory ---- */

static void every_allocation_may_fail(void **state)
{
	static const char text[] = WORKLOADS NAMESPACE(
		"shop", "{team: a, shunt.dev/on-unavailable: allow}",
		"{exclude: {ports: [22], cidrs: [10.0.0.0/8]}}")
		W("{selectors: ['cgroup:/a'], ports: {http: 80}}") "---\n" CNP(
			"p", API
			"  ingress:\n  - fromEndpoints: [{matchLabels: {app: frontend}}]\n"
			"    toPorts: [{ports: [{port: 80, protocol: TCP}], rules: {http: "
			"[{path: /a.b, "
			"headers: [X], headerMatches: [{name: X-Y, secret: {name: s}, "
			"mismatch: ADD}]}]}}]\n  - fromEndpoints: [{}]\n---\n") "apiVersion: "
										"v1\nkind: "
										"Secret\nmetadata: "
										"{name: s, "
										"namespace: shop}\n"
										"data: {k: dg==}\n";
	static const char kept[] = WORKLOAD("kept", "a", "{k: v}") WORKLOAD("shop", "api", "{}");
	const struct document_file files[] = {options_file("workers: 1\n"),
					      document("a.yaml", text),
					      state_file("/s.yaml", kept)};
	unsigned n;

	(void)state;
	if (failmalloc_at == NULL)
		skip();
	for (n = 1;; n++) {
		struct identity_table *t = identity_table_new();
		struct snapshot s;
		struct findings f;
		bool hit;
		int err;

		failmalloc_at(n);
		err = config_build(files, 3, t, 1, &s, &f);
		hit = failmalloc_hit();
		if (err == 0)
			snapshot_free(&s);
		findings_free(&f);
		identity_table_free(t);
		if (!hit)
			break;
		if (err != -ENOMEM)
			fail_msg("allocation %u failed unnoticed", n);
	}
	print_message("%u allocations failed in turn\n", n - 1);
	assert_true(n > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_workload_becomes_what_its_document_says),
		cmocka_unit_test(workloads_of_equal_labels_share_an_identity),
		cmocka_unit_test(the_same_labels_have_the_same_number_everywhere),
		cmocka_unit_test(an_identity_keeps_its_number_over_loads),
		cmocka_unit_test(what_is_wrong_with_a_workload_is_said_at_its_place),
		cmocka_unit_test(an_unquoted_boolean_is_no_label_value),
		cmocka_unit_test(switches_that_are_not_enforced_are_errors_wherever_they_stand),
		cmocka_unit_test(two_workloads_cannot_be_one_thing),
		cmocka_unit_test(a_workload_of_the_hosts_namespace_is_a_cgroup_or_a_unit),
		cmocka_unit_test(only_a_path_below_the_root_is_a_cgroup),
		cmocka_unit_test(only_the_whole_name_of_a_unit_with_processes_is_one),
		cmocka_unit_test(a_cgroup_or_a_unit_is_one_workloads),
		cmocka_unit_test(ports_are_declared_by_workloads_of_the_hosts_namespace),
		cmocka_unit_test(what_is_wrong_with_declared_ports_is_said),
		cmocka_unit_test(on_unavailable_of_the_workload_is_narrower_than_that_of_the_mesh),
		cmocka_unit_test(the_label_means_the_same_as_the_field),
		cmocka_unit_test(our_switch_is_no_label_to_select_by),
		cmocka_unit_test(an_exclusion_is_sorted_and_has_ipv4_mapped),
		cmocka_unit_test(what_is_wrong_with_an_exclusion_is_said),
		cmocka_unit_test(a_network_of_ipv6_does_not_cover_ipv4_unseen),
		cmocka_unit_test(lists_of_an_exclusion_are_bounded),
		cmocka_unit_test(the_exclusion_of_the_workload_is_narrower_than_that_of_the_mesh),
		cmocka_unit_test(a_workload_that_is_nobody_yet_is_warned_about),
		cmocka_unit_test(labels_one_level_too_high_are_warned_about),
		cmocka_unit_test(more_workloads_than_the_node_has_places_for_are_refused),
		cmocka_unit_test(policies_that_the_kernels_map_has_no_room_for_are_refused),
		cmocka_unit_test(a_namespace_as_kubectl_prints_it_is_read),
		cmocka_unit_test(what_is_wrong_with_a_namespace_is_said),
		cmocka_unit_test(labels_of_a_namespace_are_part_of_the_identity),
		cmocka_unit_test(a_workload_cannot_give_itself_the_labels_of_a_namespace),
		cmocka_unit_test(on_unavailable_of_the_namespace_lies_between_workload_and_mesh),
		cmocka_unit_test(the_exclusion_of_the_namespace_lies_between_workload_and_mesh),
		cmocka_unit_test(a_known_kind_that_is_not_enforced_is_an_error),
		cmocka_unit_test(a_foreign_kind_is_passed_over_with_a_warning),
		cmocka_unit_test(a_misspelt_kind_of_ours_is_no_foreign_one),
		cmocka_unit_test(a_document_needs_a_kind),
		cmocka_unit_test(a_list_is_read_item_by_item),
		cmocka_unit_test(a_policy_as_users_write_them_is_read),
		cmocka_unit_test(fields_that_are_not_enforced_are_errors),
		cmocka_unit_test(an_unknown_field_is_an_error_with_the_nearest_name),
		cmocka_unit_test(a_rule_that_could_mean_more_than_it_says_is_refused),
		cmocka_unit_test(expressions_of_selectors_are_checked),
		cmocka_unit_test(ports_are_checked),
		cmocka_unit_test(http_rules_ask_for_tcp_ports_with_numbers),
		cmocka_unit_test(patterns_and_headers_are_checked),
		cmocka_unit_test(one_policy_has_one_place),
		cmocka_unit_test(everything_that_is_wrong_is_said_at_once_in_order),
		cmocka_unit_test(a_terminal_is_not_driven_by_a_document),
		cmocka_unit_test(findings_are_bounded),
		cmocka_unit_test(no_documents_at_all_are_a_valid_configuration),
		cmocka_unit_test(options_have_defaults),
		cmocka_unit_test(options_are_read),
		cmocka_unit_test(a_listener_speaks_for_a_workload),
		cmocka_unit_test(a_listener_that_cannot_be_is_refused),
		cmocka_unit_test(two_listeners_of_one_place_are_refused),
		cmocka_unit_test(what_is_wrong_with_an_option_is_said),
		cmocka_unit_test(every_option_has_a_default_that_is_valid_and_words),
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
