/* Bodies of requests: into memory, to the handler, or into a file. */
#include "http/conn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

enum { AHEAD_MAX = 256 * 1024, RESERVE_MAX = 16 * 1024 };

/* Bytes on their way to the disk, off the loop.  It outlives its call while uv works
 * on it. */
struct upload {
    struct call *call; /* NULL: the call is over */
    struct server *server;
    int fd;
    struct buf waiting, writing;
    size_t written; /* of 'writing' */
    int64_t offset;
    bool busy, ended;
    uv_fs_t fs;
};

/* ---- the file ---------------------------------------------------------------------------- */

/* Without a name from the start where the file system can; else it loses it at once. */
static int open_nameless(const char *dir)
{
    char path[PATH_MAX];
    int n, fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    n = snprintf(path, sizeof path, "%s/omade-XXXXXX", dir);
    if (n < 0 || n >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

static void free_upload(struct upload *u)
{
    if (u->fd >= 0) close(u->fd);
    buf_free(&u->waiting);
    buf_free(&u->writing);
    mem_free(u);
}

void upload_drop(struct call *call)
{
    struct upload *u = call->upload;

    if (u == NULL) return;
    call->upload = NULL;
    u->call = NULL;
    if (!u->busy) free_upload(u);
}

static void refuse_storage(struct conn *c, int error)
{
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        conn_refuse(c, 507, "STORAGE_FULL", "There is no room to store the upload");
    else conn_refuse(c, 500, "INTERNAL", "The upload could not be stored");
}

static void refuse_memory(struct conn *c)
{
    conn_refuse(c, 503, "UNAVAILABLE", "Not enough memory; try again later");
}

/* ---- writing ----------------------------------------------------------------------------- */

static void on_stored(uv_fs_t *fs);

static void hold(struct conn *c, bool wanted)
{
    if (c->held == wanted) return;
    c->held = wanted;
    c->in_pace = (struct pace){ server_now(c->server), c->call->body_bytes };
}

/* 0, or an errno. */
static int store_rest(struct upload *u)
{
    uv_buf_t rest =
        uv_buf_init(u->writing.p + u->written, (unsigned)(u->writing.n - u->written));
    int result =
        uv_fs_write(u->server->loop, &u->fs, u->fd, &rest, 1, u->offset, on_stored);

    if (result < 0) return -result;
    u->busy = true;
    u->server->works++;
    return 0;
}

static int store_waiting(struct upload *u)
{
    struct buf empty = u->writing;

    buf_clear(&empty);
    u->writing = u->waiting;
    u->waiting = empty;
    u->written = 0;
    return store_rest(u);
}

/* All bytes are in the file. */
static void complete(struct conn *c, struct upload *u)
{
    c->call->request.body_fd = u->fd;
    u->fd = -1;
    upload_drop(c->call);
    hold(c, false);
    if (lseek(c->call->request.body_fd, 0, SEEK_SET) != 0) refuse_storage(c, errno);
    else conn_hand_over(c);
}

static void go_on(struct conn *c, struct upload *u)
{
    int error = 0;

    if (u->written < u->writing.n) error = store_rest(u);
    else if (u->waiting.n > 0) error = store_waiting(u);
    else if (u->ended) {
        complete(c, u);
        return;
    }
    if (error != 0) refuse_storage(c, error);
    else hold(c, u->waiting.n > AHEAD_MAX / (c->held ? 2 : 1));
}

static void on_stored(uv_fs_t *fs)
{
    struct upload *u = CONTAINER_OF(fs, struct upload, fs);
    struct server *s = u->server;
    int64_t result = fs->result;
    struct conn *c;

    uv_fs_req_cleanup(fs);
    u->busy = false;
    s->works--;
    if (s->closing) server_turn(s);
    if (u->call == NULL) {
        free_upload(u);
        return;
    }
    c = u->call->request.conn;
    c->settling = true;
    if (result <= 0) refuse_storage(c, result == 0 ? EIO : (int)-result);
    else {
        u->written += (size_t)result;
        u->offset += result;
        go_on(c, u);
    }
    conn_settle(c);
}

static void upload_begin(struct conn *c)
{
    const char *dir = c->server->settings.upload_dir;
    struct upload *u = mem_get_clear(sizeof *u);

    if (u == NULL) {
        refuse_memory(c);
        return;
    }
    u->server = c->server;
    u->call = c->call;
    u->fd = open_nameless(dir == NULL ? "/tmp" : dir);
    c->call->upload = u;
    if (u->fd < 0) refuse_storage(c, errno);
}

static void upload_add(struct conn *c, struct slice bytes)
{
    struct upload *u = c->call->upload;

    buf_add_slice(&u->waiting, bytes);
    if (u->waiting.failed) refuse_memory(c);
    else if (!u->busy) go_on(c, u);
    else hold(c, u->waiting.n > AHEAD_MAX);
}

/* ---- the three ways ---------------------------------------------------------------------- */

/* The call of before, still to be told of its body. */
static bool listens(const struct conn *c, const struct call *call)
{
    return c->call == call && c->state == CONN_RUNNING && !call->done;
}

static void stream_bytes(struct conn *c, struct slice bytes, bool last)
{
    const struct server_app *app = &c->server->app;
    struct call *call = c->call;

    if (!call->handed) conn_hand_over(c);
    if (app->on_body != NULL && listens(c, call) && (bytes.n > 0 || last))
        app->on_body(app->ctx, &call->request, bytes, last);
}

void body_begin(struct conn *c)
{
    struct call *call = c->call;
    int64_t length = c->parse.content_length;

    c->in_pace = (struct pace){ server_now(c->server), 0 };
    if (call->mode == BODY_FILE) upload_begin(c);
    else if (call->mode == BODY_WHOLE && length > 0 &&
             buf_room(&call->body,
                      (size_t)(length < RESERVE_MAX ? length : RESERVE_MAX)) == NULL)
        refuse_memory(c);
}

void body_add(struct conn *c, struct slice bytes)
{
    struct call *call = c->call;

    call->body_bytes += (int64_t)bytes.n;
    call->request.body_bytes = call->body_bytes;
    switch (call->mode) {
    case BODY_WHOLE:
        buf_add_slice(&call->body, bytes);
        if (call->body.failed) refuse_memory(c);
        break;
    case BODY_STREAM: stream_bytes(c, bytes, false); break;
    case BODY_FILE: upload_add(c, bytes); break;
    }
}

void body_end(struct conn *c)
{
    struct call *call = c->call;

    call->body_done = true;
    call->request.body_bytes = call->body_bytes;
    switch (call->mode) {
    case BODY_WHOLE:
        call->request.body = buf_slice(&call->body);
        conn_hand_over(c);
        break;
    case BODY_STREAM: stream_bytes(c, (struct slice){ 0 }, true); break;
    case BODY_FILE:
        call->upload->ended = true;
        if (!call->upload->busy) go_on(c, call->upload);
        break;
    }
}
