/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shunt config validate [DIR]: reads the folder as the daemon would and prints everything
 * that is wrong. Needs no root and no daemon.
 */
#include "proxy/cli/offline.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/files.h"
#include "config/text.h"

static const char help[] =
	"Usage: shunt config validate [-o json] [DIR]\n"
	"\n"
	"Reads shunt.yaml and every *.yaml below DIR (default /etc/shunt) and prints each\n"
	"error and warning with its place. Needs no root and no daemon.\n"
	"\n"
	"  -o, --output json   print one JSON object\n"
	"  -h, --help          this text\n"
	"\n"
	"Exit status: 0 valid (there may be warnings), 1 invalid, 2 wrong usage or DIR\n"
	"cannot be read.\n"
	"\n"
	"Examples:\n"
	"  shunt config validate\n"
	"  shunt config validate ./my-policies\n"
	"  shunt config validate -o json ./my-policies | jq '.findings[].text'\n";

/* Under the character at `column`, where the line was long enough to show it. */
static void print_caret(const struct finding *f)
{
	size_t n = strlen(f->excerpt);
	unsigned column = 1;

	for (size_t i = 0; i <= n && column < f->where.column; i++)
		column += i < n && ((unsigned char)f->excerpt[i + 1] & 0xc0) != 0x80;
	if (column == f->where.column)
		printf("    %*s^\n", (int)(column - 1), "");
}

void offline_print_findings(FILE *out, const struct findings *f)
{
	for (size_t i = 0; i < f->count; i++) {
		const struct finding *x = &f->items[i];

		fprintf(out, "%s:%u:%u: %s: %s\n", x->where.file, x->where.line, x->where.column,
			x->level == FINDING_ERROR ? "error" : "warning", x->text);
		if (x->excerpt == NULL)
			continue;
		fprintf(out, "    %s\n", x->excerpt);
		if (out == stdout)
			print_caret(x);
	}
}

static void json_finding(struct text *t, const struct finding *f)
{
	text_add(t, f->level == FINDING_ERROR ? "{\"level\":\"error\",\"file\":"
					      : "{\"level\":\"warning\",\"file\":");
	text_add_json(t, f->where.file, strlen(f->where.file));
	text_add(t, ",\"line\":");
	text_add_number(t, f->where.line);
	text_add(t, ",\"column\":");
	text_add_number(t, f->where.column);
	text_add(t, ",\"text\":");
	text_add_json(t, f->text, strlen(f->text));
	text_add(t, ",\"excerpt\":");
	if (f->excerpt == NULL)
		text_add(t, "null");
	else
		text_add_json(t, f->excerpt, strlen(f->excerpt));
	text_add(t, "}");
}

void offline_json_findings(struct text *t, const struct findings *f)
{
	text_add(t, "\"valid\":");
	text_add(t, f->errors == 0 ? "true" : "false");
	text_add(t, ",\"errors\":");
	text_add_number(t, f->errors);
	text_add(t, ",\"warnings\":");
	text_add_number(t, offline_warnings(f));
	text_add(t, ",\"findings\":[");
	for (size_t i = 0; i < f->count; i++) {
		text_add(t, i == 0 ? "" : ",");
		json_finding(t, &f->items[i]);
	}
	text_add(t, "]");
}

size_t offline_warnings(const struct findings *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->count; i++)
		n += f->items[i].level == FINDING_WARNING;
	return n;
}

int offline_load(const char *dir, struct offline *out)
{
	struct document_files files;
	char *error;
	int err = files_read(dir, &files, &error);

	*out = (struct offline){0};
	if (err < 0) {
		fprintf(stderr, "shunt: %s\n", error == NULL ? "out of memory" : error);
		free(error);
		return err;
	}
	out->files = files.count;
	out->identities = identity_table_new();
	if (out->identities != NULL)
		err = config_build(files.items, files.count, out->identities, 1, &out->snapshot,
				   &out->findings);
	if (out->identities == NULL || (err < 0 && out->findings.errors == 0)) {
		fprintf(stderr, "shunt: out of memory\n");
		exit(CLI_UNREACHABLE);
	}
	files_free(&files);
	out->valid = err == 0;
	return 0;
}

void offline_free(struct offline *o)
{
	if (o->valid)
		snapshot_free(&o->snapshot);
	findings_free(&o->findings);
	identity_table_free(o->identities);
}

static const char *plural(size_t n)
{
	return n == 1 ? "" : "s";
}

static void print_summary(const struct offline *o)
{
	size_t warnings = offline_warnings(&o->findings), rules = 0;

	if (!o->valid) {
		printf("invalid: %zu error%s, %zu warning%s in %zu file%s\n", o->findings.errors,
		       plural(o->findings.errors), warnings, plural(warnings), o->files,
		       plural(o->files));
		return;
	}
	while (policy_rule_by_id(o->snapshot.policy, (uint32_t)rules + 1) != NULL)
		rules++;
	printf("valid: %zu file%s, %zu workload%s, %zu rule%s, %zu warning%s\n", o->files,
	       plural(o->files), o->snapshot.fleet->workload_count,
	       plural(o->snapshot.fleet->workload_count), rules, plural(rules), warnings,
	       plural(warnings));
}

static void print_json(const struct offline *o)
{
	struct text t = {0};

	text_add(&t, "{");
	offline_json_findings(&t, &o->findings);
	text_add(&t, "}");
	puts(text_string(&t));
	text_free(&t);
}

static int validate(const char *dir, bool json)
{
	struct offline o;
	bool valid;

	if (offline_load(dir, &o) < 0)
		return CLI_USAGE;
	valid = o.valid;
	if (json) {
		print_json(&o);
	} else {
		offline_print_findings(stdout, &o.findings);
		print_summary(&o);
	}
	offline_free(&o);
	return valid ? CLI_OK : CLI_NO;
}

int offline_usage(const char *verb, const char *why)
{
	if (why != NULL)
		fprintf(stderr, "shunt %s: %s\n", verb, why);
	fprintf(stderr, "Try `shunt %s --help`.\n", verb);
	return CLI_USAGE;
}

int cli_config(int argc, char **argv)
{
	static const struct option options[] = {{"output", required_argument, NULL, 'o'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	bool json = false;
	int c;

	optind = 0; /* the caller has used getopt too */
	while ((c = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
		if (c == 'h')
			return fputs(help, stdout) < 0 ? CLI_USAGE : CLI_OK;
		if (c == '?')
			return offline_usage("config", NULL);
		if (c != 'o' || strcmp(optarg, "json") != 0)
			return offline_usage("config", "the only output format is json");
		json = true;
	}
	if (optind >= argc || strcmp(argv[optind], "validate") != 0)
		return offline_usage("config", "a verb is missing: config validate [DIR]");
	if (argc - optind > 2)
		return offline_usage("config", "more than one folder");
	return validate(argc - optind == 2 ? argv[optind + 1] : "/etc/shunt", json);
}
