// The moment that everything on a clip's page shows. It follows the media where it plays, and
// stands on its own where there is none, so that the timeline works for a clip no browser plays.

const FRAME_AWAY = 0.5; // seconds: no frame on the screen is so far from the media's time

export class Playhead extends EventTarget {
  constructor(duration) {
    super();
    this.duration = duration;
    this.time = 0;
    this.shown = 0; // time of the frame on the screen: a little before `time`
    this.media = null;
  }

  get playing() {
    return this.media !== null && !this.media.paused && !this.media.ended;
  }

  /** Follow an audio or video element from now on. */
  follow(media) {
    this.media = media;
    const tick = () => {
      this.#moved(media.currentTime);
      if (this.playing && !("requestVideoFrameCallback" in media)) requestAnimationFrame(tick);
    };
    for (const event of ["seeking", "seeked", "timeupdate", "playing"])
      media.addEventListener(event, tick);
    for (const event of ["play", "pause", "ended"]) {
      media.addEventListener(event, () => this.dispatchEvent(new Event("state")));
    }
    media.addEventListener("loadedmetadata", () => {
      if (this.time > 0) media.currentTime = this.time;
    });
    if ("requestVideoFrameCallback" in media) {
      const frame = (now, { mediaTime }) => {
        // Firefox sometimes tells a frame's time that is seconds off: then that of the media is nearer.
        const away = Math.abs(mediaTime - media.currentTime) > FRAME_AWAY;
        this.#moved(media.currentTime, away ? media.currentTime : mediaTime);
        if (this.media === media) media.requestVideoFrameCallback(frame);
      };
      media.requestVideoFrameCallback(frame);
    }
  }

  /** No media any more: it cannot be played. */
  release() {
    this.media = null;
    this.dispatchEvent(new Event("state"));
  }

  seek(time) {
    const wanted = Math.min(this.duration, Math.max(0, time));
    if (this.media?.readyState > 0) {
      // A preview may end before the clip: the timeline goes on without a picture.
      if (wanted > this.media.duration + 0.5) {
        this.media.pause();
        return this.#moved(wanted, -1);
      }
      this.media.currentTime = wanted;
    }
    this.#moved(wanted);
  }

  async toggle() {
    if (this.media === null) return;
    if (this.playing) return this.media.pause();
    if (this.time >= this.duration - 0.05) this.seek(0);
    try {
      await this.media.play();
    } catch (error) {
      if (error.name !== "AbortError") this.media.dispatchEvent(new Event("error"));
    }
  }

  #moved(time, shown = time) {
    this.time = time;
    this.shown = shown;
    this.dispatchEvent(new Event("time"));
  }
}
