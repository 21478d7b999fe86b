// Makes one short event of a Jira issue's change.

export const mapper = {
  transform({ context, payload }) {
    const { ignore_fields: ignored = [] } = JSON.parse(context.settings);
    const { issue, changelog, user, timestamp, issue_event_type_name: kind } = JSON.parse(payload);

    if (changelog === undefined) throw skip(`no field changed (${kind})`); // a comment, for one
    if (!Array.isArray(changelog?.items)) throw invalid("changelog has no items");
    if (typeof issue?.key !== "string") throw invalid("issue has no key");

    const items = changelog.items.filter(({ field }) => !ignored.includes(field));
    if (items.length === 0) throw skip(`only ignored fields changed: ${names(changelog.items)}`);

    const event = {
      issue: issue.key,
      project: issue.fields?.project?.key,
      type: issue.fields?.issuetype?.name,
      summary: issue.fields?.summary,
      by: user?.displayName,
      at: time(timestamp),
      changes: items.map(change),
    };
    // Jira's ids are texts; a number here would have lost digits beyond 2^53 in JSON.parse.
    const key = typeof changelog.id === "string" ? `changelog ${changelog.id}` : null;
    return [{ payload: JSON.stringify(event), key }];
  },
};

/** A changed field: as people read it, or by its id where there is no such text. */
function change(item) {
  return { field: item.field, from: text(item, "fromString", "from"), to: text(item, "toString", "to") };
}

function text(item, readable, id) {
  // Without hasOwn, an item that lacks `toString` would give every object's function of that name.
  const own = (name) => (Object.hasOwn(item, name) ? item[name] : undefined);
  return own(readable) ?? own(id) ?? null;
}

function names(items) {
  return items.map(({ field }) => field).join(", ");
}

/** RFC 3339 of milliseconds since 1970; left out when there are none. */
function time(milliseconds) {
  const date = new Date(milliseconds);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

const skip = (val) => ({ tag: "skip", val });
const invalid = (val) => ({ tag: "invalid-payload", val });
