import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;

import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageExt;

/** What the program says: one JSON object a line, and the parts that it is made of. */
final class Lines {
    /** As many bytes of a body as can hold a value of the lab, with the blank behind it. */
    private static final int HEAD_BYTES = 48;
    static final byte PADDING = '.';
    private static final PrintStream OUT = utf8(new FileOutputStream(FileDescriptor.out));

    static synchronized void say(String line) {
        OUT.println(line);
        OUT.flush();
    }

    private static PrintStream utf8(FileOutputStream file) {
        try {
            return new PrintStream(file, false, "UTF-8");
        } catch (java.io.UnsupportedEncodingException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    static String described(Throwable failure) {
        int code = 0;
        if (failure instanceof MQBrokerException) {
            code = ((MQBrokerException) failure).getResponseCode();
        } else if (failure instanceof MQClientException) {
            code = ((MQClientException) failure).getResponseCode();
        }
        return "{\"class\":" + quoted(failure.getClass().getSimpleName()) + ",\"code\":" + code + ",\"text\":"
            + quoted(String.valueOf(failure.getMessage())) + "}";
    }

    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (int at = 0; at < text.length(); at++) {
            char one = text.charAt(at);
            if (one == '"' || one == '\\') {
                out.append('\\').append(one);
            } else if (one < ' ' || one > '~') {
                out.append(String.format("\\u%04x", (int) one));
            } else {
                out.append(one);
            }
        }
        return out.append('"').toString();
    }

    /** Messages as pairs of their offset and the first bytes of their body. */
    static String listed(List<MessageExt> messages) {
        StringBuilder found = new StringBuilder("[");
        for (MessageExt message : messages) {
            found.append(found.length() == 1 ? "" : ",");
            String head = head(message);
            byte[] body = message.getBody();
            found.append("[" + message.getQueueOffset() + "," + quoted(head) + "," + (body.length - head.length()) + ","
                + isPadding(body, head.length()) + "]");
        }
        return found.append("]").toString();
    }

    static String head(MessageExt message) {
        byte[] body = message.getBody();
        return new String(body, 0, Math.min(body.length, HEAD_BYTES), StandardCharsets.ISO_8859_1);
    }

    /** Whether a body holds nothing but padding from here on, as all bodies of the lab do behind their value. */
    private static boolean isPadding(byte[] body, int from) {
        for (int at = from; at < body.length; at++) {
            if (body[at] != PADDING) {
                return false;
            }
        }
        return true;
    }

    static String pullTold(
        String status, String next, String least, String most, String master, List<MessageExt> messages) {
        return "{\"status\":" + quoted(status) + ",\"next\":" + next + ",\"min\":" + least + ",\"max\":" + most
            + ",\"master\":" + (master == null ? "null" : quoted(master)) + ",\"messages\":" + listed(messages) + "}";
    }

    private Lines() {
    }
}
