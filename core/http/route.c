#include "http/route.h"

#include "base/mem.h"

/* A node stands for the segments on the way to it:
 *
 *   root -- "api" -- "products" -- ":id" -- "stock"
 *                              \-- "stats"
 */
struct node {
    struct slice segment; /* a literal; points into text */
    char *text;
    struct node **literals; /* children, by length and bytes */
    size_t literal_count;
    struct node *param, *rest;
    struct target *targets;
};

/* What is registered at a node: methods, and the names of the parameters on the way. */
struct target {
    struct target *next;
    unsigned methods;
    void *what;
    int name_count;
    struct slice names[ROUTE_PARAMS_MAX];
    char pattern[];
};

struct route_tree {
    struct node root;
};

/* ---- life --------------------------------------------------------------------------- */

struct route_tree *route_tree_new(void)
{
    return mem_get_clear(sizeof(struct route_tree));
}

static void node_free(struct node *node)
{
    struct target *target;

    if (node == NULL) return;
    while ((target = node->targets) != NULL) {
        node->targets = target->next;
        mem_free(target);
    }
    for (size_t i = 0; i < node->literal_count; i++) {
        node_free(node->literals[i]);
        mem_free(node->literals[i]);
    }
    mem_free(node->literals);
    node_free(node->param);
    mem_free(node->param);
    node_free(node->rest);
    mem_free(node->rest);
    mem_free(node->text);
}

void route_tree_free(struct route_tree *t)
{
    if (t == NULL) return;
    node_free(&t->root);
    mem_free(t);
}

/* ---- segments -------------------------------------------------------------------------- */

/* The next segment of "/a/b"; false at the end. */
static bool next_segment(struct slice *rest, struct slice *segment)
{
    const char *slash;

    if (rest->n == 0) return false;
    rest->p++; /* the slash in front */
    rest->n--;
    slash = rest->n == 0 ? NULL : memchr(rest->p, '/', rest->n);
    *segment =
        (struct slice){ rest->p, slash == NULL ? rest->n : (size_t)(slash - rest->p) };
    rest->p += segment->n;
    rest->n -= segment->n;
    return true;
}

static int compare(struct slice a, struct slice b)
{
    if (a.n != b.n) return a.n < b.n ? -1 : 1;
    return a.n == 0 ? 0 : memcmp(a.p, b.p, a.n);
}

/* Where among the literal children the segment is, or would be. */
static size_t literal_place(const struct node *node, struct slice segment, bool *found)
{
    size_t low = 0, high = node->literal_count;

    *found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare(segment, node->literals[middle]->segment);

        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* ---- adding -------------------------------------------------------------------------------- */

static struct node *literal_new(struct slice segment)
{
    struct node *node = mem_get_clear(sizeof *node);

    if (node == NULL) return NULL;
    node->text = mem_copy_text(segment.p, segment.n);
    if (node->text == NULL) {
        mem_free(node);
        return NULL;
    }
    node->segment = (struct slice){ node->text, segment.n };
    return node;
}

static struct node *add_literal(struct node *node, struct slice segment)
{
    bool found;
    size_t place = literal_place(node, segment, &found), count = node->literal_count;
    struct node **literals, *child;

    if (found) return node->literals[place];
    literals = mem_resize(node->literals, (count + 1) * sizeof(struct node *));
    if (literals == NULL) return NULL;
    node->literals = literals;
    child = literal_new(segment);
    if (child == NULL) return NULL;
    memmove(literals + place + 1, literals + place,
            (count - place) * sizeof(struct node *));
    literals[place] = child;
    node->literal_count++;
    return child;
}

static struct node *add_child(struct node **place)
{
    if (*place == NULL) *place = mem_get_clear(sizeof **place);
    return *place;
}

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        if (c != '_' && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') &&
            !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return name.n > 0;
}

static enum route_added add_target(struct node *node, struct target *target)
{
    for (struct target *t = node->targets; t != NULL; t = t->next)
        if (t->methods & target->methods) {
            mem_free(target);
            return ROUTE_DUPLICATE;
        }
    target->next = node->targets;
    node->targets = target;
    return ROUTE_ADDED;
}

/* The node of a pattern; its parameters' names go to the target. */
static enum route_added walk_pattern(struct node **at, struct target *target,
                                     struct slice rest)
{
    struct slice segment;

    while (next_segment(&rest, &segment)) {
        bool param = segment.n > 0 && segment.p[0] == ':',
             tail = segment.n > 0 && segment.p[0] == '*';

        if (param || tail) {
            struct slice name = { segment.p + 1, segment.n - 1 };

            if (!is_name(name) || target->name_count == ROUTE_PARAMS_MAX)
                return ROUTE_MALFORMED;
            for (int i = 0; i < target->name_count; i++)
                if (slice_equal(target->names[i], name)) return ROUTE_MALFORMED;
            target->names[target->name_count++] = name;
        }
        if (tail && rest.n > 0) return ROUTE_MALFORMED;
        *at = tail    ? add_child(&(*at)->rest)
              : param ? add_child(&(*at)->param)
                      : add_literal(*at, segment);
        if (*at == NULL) return ROUTE_NO_MEMORY;
    }
    return ROUTE_ADDED;
}

enum route_added route_add(struct route_tree *t, unsigned methods, struct slice pattern,
                           void *what)
{
    struct target *target;
    struct node *node = &t->root;
    enum route_added added;

    if (pattern.n == 0 || pattern.p[0] != '/') return ROUTE_MALFORMED;
    target = mem_get_clear(sizeof *target + pattern.n);
    if (target == NULL) return ROUTE_NO_MEMORY;
    memcpy(target->pattern, pattern.p, pattern.n);
    target->methods = methods;
    target->what = what;
    added = walk_pattern(&node, target, (struct slice){ target->pattern, pattern.n });
    if (added == ROUTE_ADDED) return add_target(node, target);
    mem_free(target);
    return added;
}

/* ---- finding ---------------------------------------------------------------------------------- */

struct search {
    unsigned bit;
    struct route_match *match;
    int depth; /* parameters on the way */
    struct slice values[ROUTE_PARAMS_MAX];
};

static bool take(const struct node *node, struct search *s)
{
    for (const struct target *t = node->targets; t != NULL; t = t->next) {
        size_t n = (size_t)t->name_count * sizeof t->names[0];

        s->match->allowed |= t->methods;
        if (!(t->methods & s->bit)) continue;
        s->match->target = t->what;
        s->match->param_count = t->name_count;
        memcpy(s->match->names, t->names, n);
        memcpy(s->match->values, s->values, n);
        return true;
    }
    return false;
}

/* A literal wins over a parameter, a parameter over a rest; what leads nowhere is taken
 * back.  The depth of the recursion is the patterns', not the path's, and no node is
 * visited twice. */
static bool find(const struct node *node, struct slice rest, struct search *s)
{
    struct slice segment, after = rest;
    size_t place;
    bool found;

    if (!next_segment(&after, &segment)) return take(node, s);
    place = literal_place(node, segment, &found);
    if (found && find(node->literals[place], after, s)) return true;
    if (node->param != NULL && segment.n > 0) {
        s->values[s->depth++] = segment;
        if (find(node->param, after, s)) return true;
        s->depth--;
    }
    if (node->rest == NULL) return false;
    s->values[s->depth++] = (struct slice){ rest.p + 1, rest.n - 1 };
    if (take(node->rest, s)) return true;
    s->depth--;
    return false;
}

static enum route_found find_path(const struct route_tree *t, enum method method,
                                  struct slice path, struct route_match *match)
{
    struct search s = { .bit = 1u << method, .match = match };

    match->target = NULL;
    match->param_count = 0;
    match->allowed = 0;
    if (find(&t->root, path, &s)) return ROUTE_FOUND;
    if (method == METHOD_HEAD && (match->allowed & 1u << METHOD_GET)) {
        s.bit = 1u << METHOD_GET;
        s.depth = 0;
        if (find(&t->root, path, &s)) return ROUTE_FOUND;
    }
    return match->allowed == 0 ? ROUTE_NOT_FOUND : ROUTE_NO_METHOD;
}

/* "/a/", and neither "/" nor "/a//". */
static bool has_slash_behind(struct slice path)
{
    return path.n > 1 && path.p[path.n - 1] == '/' && path.p[path.n - 2] != '/';
}

enum route_found route_find(const struct route_tree *t, enum method method,
                            struct slice path, struct route_match *match)
{
    enum route_found found = ROUTE_NOT_FOUND;

    if (path.n > 0 && path.p[0] == '/') found = find_path(t, method, path, match);
    if (found != ROUTE_NOT_FOUND || !has_slash_behind(path)) return found;
    path.n--;
    return find_path(t, method, path, match);
}
