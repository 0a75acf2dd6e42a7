/* A file as the answer's body, read off the loop, one piece ahead of the client. */
#include <assert.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/answer.h"
#include "http/etag.h"

/* It outlives its call while uv works on it. */
struct file_send {
    struct call *call; /* NULL: the call is over */
    struct server *server;
    int fd;
    struct buf head; /* leaves with the first piece */
    int64_t offset, left;
    bool busy;
    uv_fs_t fs;
    char bytes[PIECE_MAX];
};

static void free_file_send(struct file_send *f)
{
    close(f->fd);
    buf_free(&f->head);
    mem_free(f);
}

void file_send_drop(struct call *call)
{
    struct file_send *f = call->file;

    if (f == NULL) return;
    call->file = NULL;
    f->call = NULL;
    if (!f->busy) free_file_send(f);
}

/* ---- pieces ------------------------------------------------------------------------------ */

/* The length is promised: a file that became shorter cuts the connection. */
static void send_piece(struct conn *c, struct file_send *f, int64_t n)
{
    struct slice piece = { f->bytes, (size_t)n };

    if (n <= 0) {
        conn_break(c);
        return;
    }
    f->offset += n;
    f->left -= n;
    conn_send(c, (struct slice[]){ buf_slice(&f->head), piece }, 2);
    buf_free(&f->head);
    if (f->left > 0) return;
    file_send_drop(c->call);
    answer_end(c, c->call);
}

static void on_piece(uv_fs_t *fs)
{
    struct file_send *f = CONTAINER_OF(fs, struct file_send, fs);
    struct server *s = f->server;
    int64_t n = fs->result;
    struct conn *c;

    uv_fs_req_cleanup(fs);
    f->busy = false;
    s->works--;
    if (s->closing) server_turn(s);
    if (f->call == NULL) {
        free_file_send(f);
        return;
    }
    c = f->call->request.conn;
    c->settling = true;
    send_piece(c, f, n);
    conn_settle(c);
}

bool file_send_next(struct conn *c)
{
    struct file_send *f = c->call->file;
    size_t n = f->left < PIECE_MAX ? (size_t)f->left : PIECE_MAX;
    uv_buf_t buf = uv_buf_init(f->bytes, (unsigned)n);

    if (f->busy) return false;
    if (uv_fs_read(c->server->loop, &f->fs, f->fd, &buf, 1, f->offset, on_piece) < 0) {
        conn_break(c);
        return true;
    }
    f->busy = true;
    f->server->works++;
    return false;
}

/* ---- the head ---------------------------------------------------------------------------- */

/* If-None-Match counts; only without it does If-Modified-Since. */
static bool client_has_it(const struct request *r, struct slice etag, int64_t modified)
{
    struct slice tags = request_header(r, SLICE("If-None-Match"));
    int64_t since;

    if (tags.p != NULL) return answer_is_known(r, etag);
    return http_date_read(request_header(r, SLICE("If-Modified-Since")), &since) &&
           modified <= since;
}

/* The head into server->out; false when no body follows. */
static bool write_head(struct conn *c, struct call *call, struct response *a,
                       const struct stat *file)
{
    int64_t modified = file->st_mtim.tv_sec;
    char tag[ETAG_MAX], date[HTTP_DATE_MAX];
    const struct request *r = &call->request;
    bool get = r->method == METHOD_GET || r->method == METHOD_HEAD;
    struct answer_head head = {
        .status = a->status,
        .length = file->st_size,
        .etag = etag_of_file(file->st_size, modified * 1000000000 + file->st_mtim.tv_nsec,
                             tag),
        .modified = http_date_write(modified, date),
    };

    if (a->status == 200 && get && client_has_it(r, head.etag, modified))
        head.status = 304;
    head.framing = answer_is_bare(head.status) ? FRAMING_NONE : FRAMING_LENGTH;
    call->status = head.status;
    answer_decide_close(c, call, a->close);
    answer_write_head(c, call, a, &head);
    return head.framing == FRAMING_LENGTH && file->st_size > 0 &&
           r->method != METHOD_HEAD;
}

static void give_up(struct conn *c, struct call *call, int fd)
{
    close(fd);
    answer_error(c, call, 503, "UNAVAILABLE", "The file cannot be read; try again later",
                 true);
}

static void begin(struct conn *c, struct call *call, struct response *a, int fd)
{
    struct server *s = c->server;
    struct file_send *f;
    struct stat file;

    if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) {
        give_up(c, call, fd);
        return;
    }
    if (!write_head(c, call, a, &file) || s->out.failed) {
        close(fd);
        if (s->out.failed) conn_break(c);
        else conn_send(c, &(struct slice){ s->out.p, s->out.n }, 1);
        answer_end(c, call);
        return;
    }
    f = mem_get(sizeof *f);
    if (f == NULL) {
        give_up(c, call, fd);
        return;
    }
    f->call = call;
    f->server = s;
    f->fd = fd;
    f->head = (struct buf){ 0 };
    f->offset = 0;
    f->left = file.st_size;
    f->busy = false;
    call->file = f;
    buf_add_slice(&f->head, buf_slice(&s->out));
    conn_move(c, CONN_WRITING);
    if (f->head.failed) conn_break(c);
    else conn_later(c); /* reads the first piece */
}

void request_answer_file(struct request *r, struct response *a, int fd)
{
    struct call *call = call_of(r);

    assert(call->handed && !call->answered && !call->done);
    call->answered = true;
    if (a->release != NULL) a->release(a->owner);
    a->release = NULL;
    if (r->conn != NULL) begin(r->conn, call, a, fd);
    else close(fd);
}
