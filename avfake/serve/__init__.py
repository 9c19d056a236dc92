"""`avfake serve`: a local page and a JSON API, in one process that decodes nothing itself.

    request ─► guards ─► app ─► upload ─► store      a clip's bytes, capped and hashed as they come
                          │
                          └──► jobs ─► desks ─► work     worker processes: judge, show, copy

`guards` turns strangers away before anything is read; `upload` streams one form into one file;
`store` is the private folder that all files of a run lie in; `jobs` is who waits and what came out;
`desks` are worker processes with a thread each that watches them; `work` is what runs in these;
`playback` says what browsers can play and makes previews of the rest; `schemas`, `description` and
`docs` describe the API; `server` puts it together. `page/` holds plain files that browsers get.
"""
