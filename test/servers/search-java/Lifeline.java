import java.io.IOException;
import java.util.concurrent.Callable;

/** Runs a server for as long as the test that started it lives: standard input ends with that process, however it went. */
class Lifeline {
  static void serve(Callable<? extends AutoCloseable> start) throws InterruptedException {
    Thread watch = new Thread(Lifeline::endWithInput, "lifeline");
    watch.setDaemon(true);
    watch.start();
    try {
      AutoCloseable server = start.call();
      Runtime.getRuntime().addShutdownHook(new Thread(() -> close(server)));
      System.out.println("it listens");
    } catch (Throwable error) {
      error.printStackTrace();
      // Threads that it started before it failed would keep the process.
      Runtime.getRuntime().halt(1);
    }
    Thread.currentThread().join();
  }

  private static void endWithInput() {
    try {
      while (System.in.read() >= 0) { }
    } catch (IOException gone) {
      // as good as its end
    }
    Runtime.getRuntime().halt(1);
  }

  private static void close(AutoCloseable server) {
    try {
      server.close();
    } catch (Exception error) {
      error.printStackTrace();
    }
  }
}
